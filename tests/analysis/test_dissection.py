"""Network dissection, against loops over units, images, labels and pixels."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from delta.analysis.concepts import Concepts
from delta.analysis.dissection import (
    IoUCounts,
    StreamingTopK,
    TopImages,
    best_concepts,
    dissect,
    exceeding_positions,
    iterate_maps,
)
from delta.io.errors import UserError
from delta.networks.network import build_network, save_network
from stages import dissect as stage
from stages.common.params import load_params
from tests.helpers import broden
from tests.helpers.bilinear import bilinear
from tests.helpers.painted import CROP, ColourDetectors, painted
from tests.helpers.tiny import hooks

ROOT = Path(__file__).parents[2]
NUMBERS = sorted(broden.LABELS)


@pytest.fixture(scope="module")
def images() -> list[dict]:
    return broden.random_images(11)


@pytest.fixture(scope="module")
def concepts(images, tmp_path_factory) -> Concepts:
    return Concepts.open(broden.write(tmp_path_factory.mktemp("set") / "concepts", images))


def by_hand(maps: np.ndarray, images: list[dict], share: float = 0.005) -> tuple[np.ndarray, np.ndarray]:
    """Compute, for maps [images, units, h, w], the thresholds [units] that `share` exceeds and IoUs [units, labels]."""
    thresholds, iou = [], np.zeros((maps.shape[1], len(NUMBERS)))
    for unit in range(maps.shape[1]):
        values = sorted(maps[:, unit].ravel(), reverse=True)
        threshold = values[int(share * len(values))]
        thresholds.append(threshold)
        masks = [bilinear(maps[i, unit].astype(float), *images[i]["size"]) > threshold for i in range(len(images))]
        for column, number in enumerate(NUMBERS):
            both = either = 0
            for image, mask in zip(images, masks, strict=True):
                label = broden.pixels_of(image, number)
                if label is not None:
                    both += np.sum(mask & label)
                    either += np.sum(mask | label)
            iou[unit, column] = both / either if either else 0
    return np.array(thresholds), iou


def random_maps(images: int, units: int, seed: int = 0) -> torch.Tensor:
    maps = torch.randn(images, units, 6, 7, generator=torch.Generator().manual_seed(seed)).relu()
    maps[:, 1] = 0  # a unit that is never active
    maps[:, 2].clamp_(max=1.0)  # a unit that saturates: no value exceeds its threshold
    return maps


def tallied(maps: torch.Tensor, concepts: Concepts) -> IoUCounts:
    largest = StreamingTopK(exceeding_positions(maps[:, 0].numel()) + 1)
    largest.add(maps.transpose(0, 1).flatten(1))
    tallies = IoUCounts(largest.smallest(), len(concepts.labels), concepts.category_of)
    for row, image in enumerate(maps):
        tallies.add(image, concepts.annotation(row))
    return tallies


@pytest.mark.parametrize("share, detecting", [(0.005, range(1)), (0.1, range(1, 12))])
def test_ious_equal_loops_over_pixels(images, concepts, monkeypatch, share, detecting):
    """Images differ in size and have several labels per pixel, whole-image labels and unannotated categories."""
    monkeypatch.setattr("delta.analysis.dissection.EXCEEDED", share)
    maps = random_maps(len(images), 12)
    thresholds, meant = by_hand(maps.numpy(), images, share)
    tallies = tallied(maps, concepts)
    assert np.array_equal(tallies.thresholds.numpy(), thresholds.astype(np.float32))
    iou = tallies.iou().numpy()
    assert np.abs(iou - meant).max() < 1e-12
    assert (meant > 0).any(0).all()  # every label overlaps with some unit
    assert not iou[1:3].any()

    table = best_concepts(tallies.iou(), concepts.labels)
    for unit in range(12):
        best = max(range(len(NUMBERS)), key=lambda column: (meant[unit, column], -NUMBERS[column]))  # noqa: B023
        name, category = broden.LABELS[NUMBERS[best]]
        row = table.iloc[unit]
        assert (row["unit"], row["label"], row["category"]) == (unit, name, category.partition("(")[0])
        assert row["detects"] == (meant[unit].max() > 0.04)
    detected = {broden.LABELS[NUMBERS[u.argmax()]][0] for u in meant if u.max() > 0.04}
    assert set(table["label"][table["detects"]]) == detected
    assert table["detects"].sum() in detecting


def test_large_images_are_processed_in_pieces(images, concepts, monkeypatch):
    maps = random_maps(len(images), 12)
    whole = tallied(maps, concepts)
    monkeypatch.setattr("delta.analysis.dissection._MAX_UPSAMPLED", 300)
    pieces = tallied(maps, concepts)
    assert torch.equal(whole.intersections, pieces.intersections)
    assert torch.equal(whole.unit_areas, pieces.unit_areas)


def test_channels_last_maps_give_the_same_result(images, concepts):
    maps = random_maps(len(images), 12)
    last = maps.to(memory_format=torch.channels_last)
    assert torch.equal(tallied(maps, concepts).iou(), tallied(last, concepts).iou())


def test_ties_go_to_the_lower_label_number(concepts):
    iou = torch.zeros(2, len(NUMBERS), dtype=torch.float64)
    iou[0, [3, 5]] = 0.5
    iou[1, 4] = 0.04  # not above the limit of 0.04
    table = best_concepts(iou, concepts.labels)
    assert list(table["label"]) == [broden.LABELS[NUMBERS[3]][0], broden.LABELS[NUMBERS[4]][0]]
    assert list(table["detects"]) == [True, False]


@pytest.mark.parametrize("chunk", [1, 7, 1000, 10_000])
@pytest.mark.parametrize("count", [1, 51, 3000])
def test_the_streaming_quantile_is_exact(chunk, count):
    """It is exact for any chunk size, with ties, and with more values than it keeps in memory."""
    noise = np.random.default_rng(chunk)
    values = noise.standard_normal((3, 12_500 if chunk > 1 else 4500)).round(2).astype(np.float32)
    largest = StreamingTopK(count)
    for start in range(0, values.shape[1], chunk):
        largest.add(torch.from_numpy(values[:, start : start + chunk]))
    least = largest.smallest().numpy()
    assert np.array_equal(least, np.sort(values)[:, -count])
    assert ((values > least[:, None]).sum(1) < count).all()


@pytest.mark.parametrize("positions, count", [(1, 0), (199, 0), (200, 1), (399, 1), (63_305 * 49, 15_509)])
def test_number_of_positions_above_the_threshold(positions, count):
    assert exceeding_positions(positions) == count == positions // 200


@pytest.mark.parametrize("chunk", [1, 3, 20])
def test_top_images(chunk):
    peaks = np.random.default_rng(0).integers(0, 6, (20, 5)).astype(np.float32)
    top = TopImages(4)
    for start in range(0, 20, chunk):
        top.add(torch.from_numpy(peaks[start : start + chunk]))
    for unit in range(5):
        meant = sorted(range(20), key=lambda image: (-peaks[image, unit], image))  # noqa: B023
        assert top.images[unit].tolist() == meant[:4]


def test_fewer_images_than_the_gallery_shows():
    top = TopImages(4)
    top.add(torch.tensor([[1.0], [2.0]]))
    assert top.images.tolist() == [[1, 0]]


@pytest.mark.parametrize(
    "device, batch_size",
    [
        *(("cpu", size) for size in (1, 3, 32)),
        pytest.param("cuda", 3, marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")),
    ],
)
def test_a_unit_that_detects_exactly_one_concept(tmp_path, device, batch_size):
    """25 of 5 · 32² positions may exceed the threshold: all 25 red ones do; the 30 blue ones are tied, so none does."""
    noise = np.random.default_rng(0)
    counts = [(9, 10), (0, 0), (16, 11), (0, 5), (0, 4)]
    images = [painted(noise, *each) for each in counts]
    labels = {number: broden.LABELS[number] for number in (2, 3, 5)}
    concepts = Concepts.open(broden.write(tmp_path / "concepts", images, labels))
    network = ColourDetectors().train().to(device)
    dissection = dissect(network, concepts, CROP, "units", batch_size)
    assert dissection.units.values.tolist() == [
        [0, 0.0, "red", "color", 1.0, True],
        [1, 1.0, "red", "color", 0.0, False],
    ]
    assert dissection.top_images.tolist() == [[0, 2, 1, 3], [0, 2, 3, 4]]
    assert network.training
    assert not network.backbone.units._forward_hooks


@pytest.fixture(scope="module")
def network(weights):
    return build_network(weights, 3)


def test_dissection_of_a_network_equals_loops(network, images, concepts):
    """This covers both passes, from the network's inputs to the IoUs, for several batch sizes."""
    layer = "blocks.1.1.conv_pwl"
    inputs = np.stack(
        [np.asarray(Image.fromarray(i["pixels"]).resize((CROP, CROP), Image.Resampling.BILINEAR)) for i in images]
    )
    maps = []
    handle = network.backbone.get_submodule(layer).register_forward_hook(lambda _m, _i, out: maps.append(out.relu()))
    with torch.no_grad():
        network.eval().backbone(torch.from_numpy(inputs).permute(0, 3, 1, 2) / 255 * 2 - 1)
    handle.remove()
    thresholds, iou = by_hand(maps[0].numpy(), images)
    for batch_size in (2, 32):
        units = dissect(network, concepts, CROP, layer, batch_size).units
        assert units["threshold"].to_numpy() == pytest.approx(thresholds, rel=1e-4)
        assert units["iou"].to_numpy() == pytest.approx(iou.max(1), abs=2e-3)
        right = units["label"] == [broden.LABELS[NUMBERS[column]][0] for column in iou.argmax(1)]
        assert right.mean() > 0.9  # except for near ties
    assert (iou.max(1) > 0.04).any()


def test_two_runs_give_the_same_bits(network, concepts):
    one, again = (dissect(network, concepts, CROP) for _ in range(2))
    pd.testing.assert_frame_equal(one.units, again.units, check_exact=True)
    assert (one.layer, len(one.units)) == ("bn2", 1280)  # the default layer is the last stage


def test_hooks_are_removed_after_an_error(network, images, tmp_path):
    root = broden.write(tmp_path / "concepts", images)
    (root / "images" / "set" / "007_color_0.png").unlink()
    with pytest.raises(UserError, match="007_color_0.png") as error:
        dissect(network, Concepts.open(root), CROP, "bn2", batch_size=2)
    assert error.traceback  # keeps the frames alive
    assert not hooks(network)


def test_an_unknown_layer_is_reported(network, concepts):
    with pytest.raises(UserError, match="layer 'layer4': EfficientNet-Lite0, random has no such module"):
        dissect(network, concepts, CROP, "layer4")


@pytest.fixture
def params(images, tmp_path, monkeypatch):
    """The slice's parameters with these concepts and a smaller crop, in a temporary folder."""
    params = load_params(ROOT / "params.yaml")
    monkeypatch.chdir(tmp_path)
    root = broden.write(tmp_path / "concepts", images)
    (view,) = params.backbones.values()
    return params.model_copy(
        update={
            "dissection": params.dissection.model_copy(update={"concepts": str(root), "layer": "blocks.1.1"}),
            "backbones": {"efficientnet_lite0": view.model_copy(update={"crop": CROP})},
        }
    )


def test_the_stage_writes_units_and_gallery(params, network):
    run = Path("runs/drawn_30/efficientnet_lite0/delta/0")
    run.mkdir(parents=True)
    save_network(network, run)
    stage.main(params, "drawn_30", "efficientnet_lite0", "delta", 0)
    out = Path("runs/drawn_30/efficientnet_lite0/dissection/delta/0")
    units, gallery = pd.read_csv(out / "units.csv"), pd.read_csv(out / "gallery.csv")
    assert list(units) == ["unit", "threshold", "label", "category", "iou", "detects"]
    assert list(units["unit"]) == list(range(24))
    assert list(units["detects"]) == list(units["iou"] > 0.04)
    assert {*gallery["file"], "units.csv", "gallery.csv"} == {path.name for path in out.iterdir()}


def test_a_missing_run_is_reported(params):
    with pytest.raises(UserError, match=r"delta/1: no trained network"):
        stage.main(params, "drawn_30", "efficientnet_lite0", "delta", 1)


def test_images_are_freed_after_their_batch(network, concepts, monkeypatch):
    read, image = [], Concepts.image

    def watched(self: Concepts, row: int, crop: int) -> np.ndarray:
        pixels = image(self, row, crop)
        read.append(weakref.ref(pixels))
        return pixels

    monkeypatch.setattr(Concepts, "image", watched)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    stream = iterate_maps(network, "bn2", concepts, range(len(concepts)), CROP, batch_size=1)
    most = max(sum(pixels() is not None for pixels in read) for _ in stream)
    assert len(read) == 11
    assert most <= 5  # one in use, two being passed, two ahead
