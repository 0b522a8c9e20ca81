"""Activation at the parts of objects, with simple networks and images whose result is known."""

from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from delta.analysis.parts import activations_at_parts, part_activation, summarise_parts, to_upright_pixels
from delta.data.images import decode
from delta.data.packed.views import DefaultViewData
from delta.io.errors import UserError
from delta.networks.network import build_network, save_network, trained_network
from tests.helpers.bilinear import bilinear
from tests.helpers.tiny import SPEC, pack

CROP = 12
SHOWN = {  # the last image shows none of its parts, and no image shows an eye
    "a": {"wing": True, "beak": True, "eye": False},
    "b": {"wing": False, "beak": True, "eye": False},
    "c": {"wing": False, "beak": False, "eye": False},
}


class RedAndGreen(torch.nn.Module):
    """A network whose last convolution has two filters: a pixel's red value minus 100, and half its green value."""

    def __init__(self):
        super().__init__()
        convolution = torch.nn.Conv2d(3, 2, 1)
        with torch.no_grad():
            convolution.weight.copy_(torch.tensor([[255.0, 0, 0], [0, 127.5, 0]])[..., None, None])
            convolution.bias.copy_(torch.tensor([-100.0, 0]))
        self.backbone = torch.nn.Sequential(OrderedDict(first=torch.nn.Identity(), conv=convolution))
        self.spec = SimpleNamespace(
            name="by hand", feature_layers={"first": ("first",), "conv": ("conv",)}, mean=(0, 0, 0), std=(1, 1, 1)
        )


def map_by_hand(pixels: np.ndarray) -> np.ndarray:
    red, green = pixels[..., 0].astype(float), pixels[..., 1].astype(float)
    return (np.maximum(red - 100, 0) + green / 2) / 2


def packed_by_hand(test_view: np.ndarray, splits: list[str]) -> DefaultViewData:
    names = [f"{number}.png" for number in range(len(splits))]
    index = pd.DataFrame({"path": names, "label": "thing", "target": 0, "split": splits, "train_row": 0})
    return DefaultViewData(index, np.zeros((0, 1, 1, 3), np.uint8), test_view)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (4, CROP, CROP, 3), dtype=np.uint8)


def parts_of(rows: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["path", "part", "visible", "x", "y", "width", "height"])


def test_a_part_on_a_bright_pixel_has_the_value_of_that_pixel():
    """The image has the size of the crop and is black except for a pixel of 255 and one of 100 + 31."""
    pixels = np.zeros((1, CROP, CROP, 3), np.uint8)
    pixels[0, 2, 7, 0], pixels[0, 9, 4, 0] = 255, 131
    places = [(7, 2), (4, 9), (2, 7), (0, 0), (11, 11)]
    parts = parts_of([("0.png", "part", True, x, y, CROP, CROP) for x, y in places])
    values = activations_at_parts(RedAndGreen(), packed_by_hand(pixels, ["test"]), parts)
    assert values.tolist() == pytest.approx([1, 31 / 155, 0, 0, 0], abs=1e-6)
    assert values[0] == 1


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_activation_is_measured_at_the_size_of_the_image(pixels, batch_size):
    """There are four images of different sizes; the second one is a training image."""
    sizes, noise = [(31, 20), (12, 12), (8, 25), (17, 33)], np.random.default_rng(5)
    rows, expected = [], []
    for image, (width, height) in enumerate(sizes):
        whole = bilinear(map_by_hand(pixels[image]), height, width)
        whole = (whole - whole.min()) / (whole.max() - whole.min())
        for x, y in zip(noise.integers(0, width, 6), noise.integers(0, height, 6), strict=True):
            rows.append((f"{image}.png", "part", True, x, y, width, height))
            expected.append(np.nan if image == 1 else whole[y, x])
    order = noise.permutation(len(rows))
    data = packed_by_hand(pixels, ["test", "train", "test", "test"])
    values = activations_at_parts(RedAndGreen(), data, parts_of([rows[i] for i in order]), batch_size=batch_size)
    np.testing.assert_allclose(values.numpy(), np.array(expected)[order], atol=1e-5)


def test_the_activation_is_that_of_the_layer_that_is_asked_for():
    """The layer `first` passes on the pixels themselves, so its map is the mean of red, green and blue."""
    pixels = np.random.default_rng(7).integers(0, 256, (1, CROP, CROP, 3), dtype=np.uint8)
    places = [(7, 2), (4, 9), (0, 0), (11, 11)]
    parts = parts_of([("0.png", "part", True, x, y, CROP, CROP) for x, y in places])
    data = packed_by_hand(pixels, ["test"])
    for layer, grey in (("first", pixels[0].astype(float).mean(2)), ("conv", map_by_hand(pixels[0]))):
        expected = [(grey[y, x] - grey.min()) / (grey.max() - grey.min()) for x, y in places]
        values = activations_at_parts(RedAndGreen(), data, parts, layer)
        np.testing.assert_allclose(values.numpy(), expected, atol=1e-5)


def test_a_map_without_contrast_is_zero_everywhere():
    parts = parts_of([("0.png", "part", True, 3, 3, 20, 30)])
    data = packed_by_hand(np.full((1, CROP, CROP, 3), 200, np.uint8), ["test"])
    assert activations_at_parts(RedAndGreen(), data, parts).tolist() == [0]


@pytest.mark.parametrize("orientation", range(0, 10))
def test_parts_are_rotated_with_their_image(tmp_path, orientation):
    """After decoding, the bright pixel is where the part is annotated. Orientations 0 and 9 are invalid and ignored."""
    width, height = 7, 5
    for x, y in [(0, 0), (6, 0), (2, 3), (5, 4)]:
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[y, x] = 255
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(tmp_path / "0.png", exif=exif)
        parts = pd.DataFrame({"path": ["0.png"], "part": "eye", "x": [x + 0.7], "y": [float(y)], "visible": True})
        part = to_upright_pixels(parts, pd.Series(["0.png"]), tmp_path).iloc[0]
        upright = np.asarray(decode(tmp_path / "0.png"))
        assert (part["height"], part["width"]) == upright.shape[:2]
        assert upright[part["y"], part["x"]].tolist() == [255, 255, 255]
        assert upright.any(2).sum() == 1


def test_a_part_beyond_the_border_is_clamped_to_it(tmp_path):
    Image.new("RGB", (7, 5)).save(tmp_path / "0.png")
    places = [(6.99, 4.99), (7.0, 5.0), (400.0, 2.0), (-0.5, -3.0), (1.0, 1.99)]
    parts = pd.DataFrame(places, columns=["x", "y"]).assign(path="0.png", part="eye", visible=True)
    found = to_upright_pixels(parts, pd.Series(["0.png"]), tmp_path)
    assert found[["x", "y"]].to_numpy().tolist() == [[6, 4], [6, 4], [6, 2], [0, 0], [1, 1]]


def test_the_table_equals_a_hand_computed_one():
    parts = pd.DataFrame(
        [(path, part, visible) for path, shown in SHOWN.items() for part, visible in shown.items()],
        columns=["path", "part", "visible"],
    )
    values = torch.tensor([0.5, 0.25, 0.9, 0.7, 0.75, 0.9, 0.3, 0.4, 0.6], dtype=torch.float64)
    found = summarise_parts(parts, values)
    assert list(found.columns) == ["part", "activation", "images"]
    assert found["part"].tolist() == ["all", "wing", "beak", "eye"]
    assert found["images"].tolist() == [3, 1, 2, 0]
    assert found["activation"].tolist()[:3] == pytest.approx([(0.5 + 0.25 + 0.75) / 3, 0.5, 0.5])
    assert found["activation"].isna().tolist() == [False, False, False, True]


@pytest.fixture(scope="module")
def birds(photographs, tmp_path_factory):
    """The photographs packed at 64 pixels (2 x 2 maps). Each has a wing and a tail; the tail is often hidden."""
    out = tmp_path_factory.mktemp("birds")
    paths = pack(photographs, 64, 64, out)
    rows = [
        (path, part, 5.0 + 2 * number, 9.5 + number, part == "wing" or number % 3 > 0)
        for number, path in enumerate(paths)
        for part in ("wing", "tail")
    ]
    return out, pd.DataFrame(rows, columns=["path", "part", "x", "y", "visible"])


@pytest.fixture(scope="module")
def runs(weights, tmp_path_factory):
    folder, runs = tmp_path_factory.mktemp("runs"), {}
    for seed in (2, 5):
        network = build_network(weights, 3, seed)
        with torch.no_grad():
            network.backbone.get_submodule("blocks.6.0.conv_pwl").weight.mul_(-1 if seed == 5 else 1)
        runs[seed] = folder / str(seed)
        runs[seed].mkdir()
        save_network(network, runs[seed])
    return runs


def test_every_seed_is_measured(birds, runs, photographs):
    packed, parts = birds
    found = part_activation(runs, packed, parts, photographs, torch.device("cpu"))
    assert list(found.columns) == ["seed", "part", "activation", "images"]
    assert found[["seed", "part"]].to_numpy().tolist() == [[s, p] for s in (2, 5) for p in ("all", "wing", "tail")]
    data = DefaultViewData.open(packed)
    for seed, run in runs.items():
        network, sums, tails = trained_network(run), [], []
        for images, path in zip(
            (x for x, _ in data.test_batches("test", SPEC, 1, torch.device("cpu"))),
            data.index["path"].iloc[data.rows("test")],
            strict=True,
        ):
            kept = []
            layer = network.backbone.get_submodule("blocks.6.0.conv_pwl")
            handle = layer.register_forward_hook(lambda module, inputs, output, kept=kept: kept.append(output))
            with torch.no_grad():
                network.eval()(images)
            handle.remove()
            width, height = Image.open(photographs / path).size
            whole = bilinear(kept[0][0].clamp(min=0).mean(0).double().numpy(), height, width)
            whole = (whole - whole.min()) / (whole.max() - whole.min())
            here = parts[(parts["path"] == path) & parts["visible"]].set_index("part")
            values = {part: whole[int(row["y"]), int(row["x"])] for part, row in here.iterrows()}
            sums.append(sum(values.values()))
            tails += [values["tail"]] if "tail" in values else []
        rows = found[found["seed"] == seed].set_index("part")
        assert rows["images"].to_dict() == {"all": 6, "wing": 6, "tail": len(tails)}
        assert 0 < len(tails) < 6
        assert rows.loc["all", "activation"] == pytest.approx(np.mean(sums), abs=1e-4)
        assert rows.loc["tail", "activation"] == pytest.approx(np.mean(tails), abs=1e-4)
    assert found["activation"].iloc[0] != pytest.approx(found["activation"].iloc[3], abs=1e-3)


def test_two_runs_give_the_same_bits(birds, runs, photographs):
    packed, parts = birds
    once, twice = (part_activation(runs, packed, parts, photographs, torch.device("cpu")) for _ in range(2))
    assert once.to_csv() == twice.to_csv()


def test_test_images_without_annotated_parts_are_refused(birds, runs, photographs):
    packed, parts = birds
    index = DefaultViewData.open(packed).index
    training = parts[parts["path"].isin(index.loc[index["split"] == "train", "path"])]
    with pytest.raises(UserError, match="no test image has annotated parts") as error:
        part_activation(runs, packed, training, photographs, torch.device("cpu"))
    assert "\n" not in str(error.value)


def test_a_layer_is_measured_in_every_run(birds, runs, photographs):
    """The runs differ in the last layer alone: an earlier one has the same activation in both, and not the last's."""
    packed, parts = birds
    cpu, last, earlier = torch.device("cpu"), "blocks.6.0.conv_pwl", "blocks.3.0.conv_pw"
    by_default, same, other = (
        part_activation(runs, packed, parts, photographs, cpu, layer) for layer in (None, last, earlier)
    )
    pd.testing.assert_frame_equal(same, by_default, check_exact=True)
    two, five = (other[other["seed"] == seed]["activation"].tolist() for seed in (2, 5))
    assert two == five
    assert by_default["activation"].tolist() != other["activation"].tolist()


@pytest.mark.parametrize(
    ("layer", "message"), [("layer4", "has no such module"), ("global_pool", "does not output maps")]
)
def test_a_wrong_layer_is_reported(layer, message, birds, runs, photographs):
    with pytest.raises(UserError, match=f"layer '{layer}'.*{message}") as error:
        part_activation(runs, *birds, photographs, torch.device("cpu"), layer)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["missing", "broken"])
def test_an_unreadable_image_is_reported(birds, runs, tmp_path, damage):
    packed, parts = birds
    index = DefaultViewData.open(packed).index
    first = tmp_path / index.loc[index["split"] == "test", "path"].iloc[0]
    if damage == "broken":
        first.parent.mkdir()
        first.write_bytes(b"<html>")
    with pytest.raises(UserError, match=f"{first}: not readable") as error:
        part_activation(runs, packed, parts, tmp_path, torch.device("cpu"))
    assert "\n" not in str(error.value)


def test_a_missing_run_is_reported(birds, photographs, tmp_path):
    with pytest.raises(UserError, match="no trained network"):
        part_activation({0: tmp_path / "gone"}, *birds, photographs, torch.device("cpu"))
