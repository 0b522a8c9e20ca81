"""Activation maps: which filters and images are chosen, the maps, their statistics and their pictures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from delta.analysis.activation_maps import activation_maps, mean_activations_and_maps, select_filters
from delta.analysis.map_files import (
    METHODS,
    ActivationMaps,
    correlation,
    evenly_spaced,
    map_table,
    read_maps,
    write_maps,
)
from delta.data.packed.views import DefaultViewData
from delta.data.packing import write_packed
from delta.data.split import assign_splits
from delta.io.errors import UserError
from delta.networks.network import build_network, save_network, trained_network
from delta.report.map_figures import class_figure, figure1, figure6, over, write_map_pictures
from tests.helpers.bilinear import bilinear
from tests.helpers.tiny import CPU, SPEC, hooks, pack

LAYER = "blocks.6.0.conv_pwl"
EARLIER = "blocks.4.0.conv_pw"  # not a feature layer; 4 x 4 maps of 480 filters at 64 pixels


@pytest.fixture(scope="module")
def packed(photographs, tmp_path_factory):
    """The photographs packed at 64 pixels, which makes the last maps 2 x 2."""
    out = tmp_path_factory.mktemp("packed")
    pack(photographs, 64, 64, out)
    return out


@pytest.fixture(scope="module")
def runs(weights, tmp_path_factory):
    """One run per method: the source network, and four networks whose last convolution was changed."""
    folder, runs = tmp_path_factory.mktemp("runs"), {}
    for seed, method in enumerate(METHODS):
        network = build_network(weights, 3, seed)
        noise = torch.Generator().manual_seed(seed)
        weight = network.backbone.get_submodule(LAYER).weight
        with torch.no_grad():
            weight += 0.5 * bool(seed) * weight.std() * torch.randn(weight.shape, generator=noise)
        runs[method] = folder / method
        runs[method].mkdir()
        save_network(network, runs[method])
    return runs


@pytest.fixture(scope="module")
def shown(runs, packed):
    return activation_maps(runs, packed, images=2, filters=3, device=CPU)


def raw_maps(run, packed, layer=LAYER) -> torch.Tensor:
    """A layer's maps of all test images, captured by a hook of this test."""
    network, kept, data = trained_network(run).eval(), [], DefaultViewData.open(packed)
    network.backbone.get_submodule(layer).register_forward_hook(lambda module, inputs, output: kept.append(output))
    with torch.no_grad():
        for images, _ in data.test_batches("test", SPEC, 64, CPU):
            network.backbone(images)
    return torch.cat(kept).double()


def made_up(maps: dict[str, np.ndarray], labels=("ant", "bee"), filters=(7,)) -> ActivationMaps:
    size = next(iter(maps.values())).shape[-1]
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), size, size, 3), dtype=np.uint8)
    columns = {"filter": filters, "source_mean": 0.0, "tuned_mean": 0.1, "considered": 8, "filters": 80, "layer": LAYER}
    images = pd.DataFrame({"label": labels, "path": [f"{label}/0.jpg" for label in labels]})
    return ActivationMaps(images, pixels, pd.DataFrame(columns), maps)


@pytest.fixture(scope="module")
def noise_maps():
    noise = np.random.default_rng(1)
    maps = {method: noise.random((2, 2, 16, 16), np.float32) for method in METHODS}
    maps["l2_fe"][0, 1] = 0
    maps["l2_sp"][1, 1] = 0
    return maps


@pytest.mark.parametrize(
    ("count", "most", "places"),
    [
        (10, 10, list(range(10))),
        (3, 10, [0, 1, 2]),
        (10, 3, [0, 4, 9]),
        (5, 3, [0, 2, 4]),
        (120, 5, [0, 30, 60, 89, 119]),
        (7, 1, [0]),
    ],
)
def test_places_are_spread_evenly(count, most, places):
    assert evenly_spaced(count, most).tolist() == places


def test_places_are_distinct():
    counts = [(count, most) for count in range(1, 40) for most in range(1, 45)]
    assert all(len(set(evenly_spaced(count, most))) == min(count, most) for count, most in counts)


def test_filters_are_inactive_in_the_source_and_active_in_the_others():
    """Four of forty filters are candidates: 30, 31 and 33, which the source never activates, and 7."""
    source = torch.arange(40, dtype=torch.float64) + 1
    source[[30, 31, 33]], source[7] = 0, 0.5
    tuned = torch.full((40,), 100.0, dtype=torch.float64)
    tuned[[30, 31, 33, 7]] = torch.tensor([2.0, 3.0, 3.0, 5.0], dtype=torch.float64)
    chosen, considered = select_filters(source, tuned, 3)
    assert (chosen.tolist(), considered) == ([7, 31, 33], 4)
    chosen, considered = select_filters(source, tuned, 1)
    assert (chosen.tolist(), considered) == ([7], 4)


def test_there_are_at_least_as_many_candidates_as_filters_shown():
    source, tuned = torch.tensor([3.0, 1.0, 2.0, 9.0]), torch.tensor([1.0, 2.0, 3.0, 9.0])
    assert [each.tolist() for each in select_filters(source, tuned, 2)[:1]] == [[2, 1]]
    assert select_filters(source, tuned, 2)[1] == 2


def test_equally_active_filters_are_sorted_by_index():
    chosen, _ = select_filters(torch.zeros(64), torch.zeros(64), 3)
    assert chosen.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("layer", "batch_size"), [(LAYER, 1), (LAYER, 4), (LAYER, 64), (EARLIER, 4)])
def test_means_cover_all_test_images_and_maps_only_the_requested_ones(runs, packed, layer, batch_size):
    network, data = trained_network(runs["l2"]), DefaultViewData.open(packed)
    means, maps = mean_activations_and_maps(network, data, np.array([5, 0, 3]), layer, batch_size)
    expected = raw_maps(runs["l2"], packed, layer)
    torch.testing.assert_close(means, expected.clamp(min=0).mean((0, 2, 3)), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(maps.double(), expected[[5, 0, 3]], rtol=1e-4, atol=1e-5)
    assert hooks(network) == 0


def test_the_images_are_the_first_of_evenly_spread_classes(shown, packed):
    index = DefaultViewData.open(packed).index
    tests = index[index["split"] == "test"]
    expected = [(label, tests.loc[tests["label"] == label, "path"].min()) for label in ("ant", "cow")]
    assert list(shown.images.itertuples(index=False, name=None)) == expected
    rows = [index.index[index["path"] == path][0] for path in shown.images["path"]]
    assert (shown.pixels == np.load(packed / "test_view.npy")[rows]).all()


def test_the_filters_are_chosen_over_all_test_images(shown, runs, packed):
    means = {method: raw_maps(run, packed).clamp(min=0).mean((0, 2, 3)).numpy() for method, run in runs.items()}
    tuned = sum(means[method] for method in METHODS[1:]) / 4
    low = sorted(range(320), key=lambda j: means["l2_fe"][j])[:32]
    best = sorted(low, key=lambda j: -tuned[j])[:3]
    found = shown.filters
    assert found["filter"].tolist() == best
    np.testing.assert_allclose(found["source_mean"], means["l2_fe"][best], rtol=1e-4)
    np.testing.assert_allclose(found["tuned_mean"], tuned[best], rtol=1e-4)
    columns = {name: found[name].unique().tolist() for name in ("considered", "filters", "layer")}
    assert columns == {"considered": [32], "filters": [320], "layer": [LAYER]}
    assert shown.names == ["network", *map(str, best)]


def test_the_maps_are_upsampled_and_normalised(shown, runs, packed):
    index = DefaultViewData.open(packed).index
    tests = list(index.loc[index["split"] == "test", "path"])
    contrasts = 0
    for method, run in runs.items():
        raw = raw_maps(run, packed)
        assert shown.maps[method].shape == (2, 4, 64, 64)
        for image, path in enumerate(shown.images["path"]):
            maps = raw[tests.index(path)].numpy()
            kinds = [maps.clip(0).mean(0), *maps[shown.filters["filter"]]]
            for number, small in enumerate(kinds):
                expected = np.zeros((64, 64))
                if small.max() > small.min():
                    whole = bilinear(small, 64, 64)
                    expected = (whole - whole.min()) / (whole.max() - whole.min())
                    contrasts += 1
                np.testing.assert_allclose(shown.maps[method][image, number], expected, atol=1e-3)
    assert contrasts == 40


def test_the_maps_are_of_the_layer_that_is_asked_for(runs, packed):
    """Its filters are chosen, and its maps, finer than the last layer's, are upsampled."""
    found = activation_maps(runs, packed, images=2, filters=2, device=CPU, layer=EARLIER)
    raw = {method: raw_maps(run, packed, EARLIER).numpy() for method, run in runs.items()}
    assert raw["delta"].shape[1:] == (480, 4, 4)
    means = {method: maps.clip(0).mean((0, 2, 3)) for method, maps in raw.items()}
    low = sorted(range(480), key=lambda j: means["l2_fe"][j])[:48]
    best = sorted(low, key=lambda j: -sum(means[method][j] for method in METHODS[1:]))[:2]
    assert found.filters["filter"].tolist() == best
    assert found.filters[["considered", "filters", "layer"]].drop_duplicates().values.tolist() == [[48, 480, EARLIER]]
    tests = DefaultViewData.open(packed).index.query("split == 'test'")["path"].tolist()
    for method in METHODS:
        for image, path in enumerate(found.images["path"]):
            small = raw[method][tests.index(path)]
            for number, one in enumerate([small.clip(0).mean(0), *small[best]]):
                whole = bilinear(one, 64, 64)
                whole = (whole - whole.min()) / (whole.max() - whole.min())
                np.testing.assert_allclose(found.maps[method][image, number], whole, atol=1e-3)


def test_by_default_the_layer_is_the_last_feature_layer(shown, runs, packed):
    same = activation_maps(runs, packed, images=2, filters=3, device=CPU, layer=LAYER)
    pd.testing.assert_frame_equal(same.filters, shown.filters, check_exact=True)
    assert all(np.array_equal(same.maps[method], shown.maps[method]) for method in METHODS)


@pytest.mark.parametrize(
    ("layer", "message"), [("layer4", "has no such module"), ("global_pool", "does not output maps")]
)
def test_a_wrong_layer_is_reported(layer, message, runs, packed):
    with pytest.raises(UserError, match=f"layer '{layer}'.*{message}") as error:
        activation_maps(runs, packed, images=2, filters=2, device=CPU, layer=layer)
    assert "\n" not in str(error.value)


def test_maps_of_one_pixel_have_no_contrast(runs, photographs, tmp_path):
    """A crop of 32 pixels gives maps of 1 x 1, which are constant after upsampling."""
    paths = [f"{label}/{number}.png" for label in ("ant", "bee") for number in range(3)]
    table = pd.DataFrame({"path": paths, "label": [path.split("/")[0] for path in paths]})
    write_packed(photographs, assign_splits(table, 2, 1, seed=0), 32, 32, tmp_path)
    found = activation_maps(runs, tmp_path, images=2, filters=2, device=CPU)
    assert not any(maps.any() for maps in found.maps.values())


def test_a_missing_run_is_reported(runs, packed, tmp_path):
    with pytest.raises(UserError, match="no trained network"):
        activation_maps(runs | {"delta": tmp_path}, packed, images=2, filters=3, device=CPU)


def test_area_and_correlation_of_the_maps(noise_maps):
    table = map_table(made_up(noise_maps))
    assert list(table.columns) == ["label", "path", "map", "method", "area", "correlation"]
    assert len(table) == 2 * 2 * 5
    rows = table.set_index(["label", "map", "method"])
    for method in METHODS:
        for image, label in enumerate(("ant", "bee")):
            for number, name in enumerate(("network", "7")):
                a, b = noise_maps[method][image, number], noise_maps["l2_sp"][image, number]
                row = rows.loc[(label, name, method)]
                assert row["path"] == f"{label}/0.jpg"
                assert row["area"] == pytest.approx(100 * sum(value > 0.5 for value in a.ravel()) / 256)
                if a.any() and b.any():
                    assert row["correlation"] == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1], abs=1e-6)
                else:
                    assert np.isnan(row["correlation"]) and (row["area"] == 0 or b.sum() == 0)
    assert rows.loc[("ant", "7", "l2_fe"), "area"] == 0
    assert table["correlation"].isna().sum() == 1 + 5


def test_correlation_by_hand():
    rising = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    assert correlation(rising, rising) == pytest.approx(1)
    assert correlation(rising, 1 - rising) == pytest.approx(-1)
    assert np.isnan(correlation(rising, np.zeros((4, 4), np.float32)))


def test_maps_are_read_as_written(noise_maps, tmp_path):
    shown = made_up(noise_maps)
    write_maps(tmp_path, shown)
    names = ["images.csv", "filters.csv", "maps.csv", "pixels.npy", *(f"{method}.npy" for method in METHODS)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    read = read_maps(tmp_path)
    pd.testing.assert_frame_equal(read.images, shown.images)
    pd.testing.assert_frame_equal(read.filters, shown.filters)
    assert np.array_equal(read.pixels, shown.pixels)
    assert list(read.maps) == list(METHODS)
    assert all(np.array_equal(read.maps[method], shown.maps[method]) for method in METHODS)
    table = pd.read_csv(tmp_path / "maps.csv", dtype={"map": str})
    pd.testing.assert_frame_equal(table, map_table(shown), check_exact=True)


@pytest.mark.parametrize(
    ("name", "content"),
    [("delta.npy", None), ("delta.npy", b""), ("pixels.npy", b"\x93NUMPY"), ("images.csv", b""), ("filters.csv", None)],
)
def test_missing_or_damaged_map_files_are_reported(name, content, noise_maps, tmp_path):
    write_maps(tmp_path, made_up(noise_maps))
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"^{tmp_path}: no activation maps .*: run `dvc repro`$"):
        read_maps(tmp_path)


def test_pictures_of_the_maps(noise_maps, tmp_path):
    shown = made_up(noise_maps)
    for name in ("once", "twice"):
        (tmp_path / name).mkdir()
        write_map_pictures(tmp_path / name, shown, "drawn_30", "efficientnet_lite0")
    once, twice = (
        {file.relative_to(tmp_path / name): file.read_bytes() for file in (tmp_path / name).rglob("*.jpg")}
        for name in ("once", "twice")
    )
    assert once == twice
    assert len(set(once.values())) == len(once) == 4


@pytest.mark.parametrize("values", [0.0, 0.5, 1.0])
def test_the_image_is_visible_under_its_map(values):
    pixels = np.zeros((2, 1, 3), np.uint8)
    pixels[1] = 255
    dark, light = over(pixels, np.full((2, 1), values))[:, 0]
    assert (light > dark).all()
    assert (dark >= 0).all() and (light <= 1).all()


@pytest.mark.parametrize("grey", [0, 90, 255])
def test_colours_get_lighter_with_the_activation(grey):
    tile = over(np.full((1, 64, 3), grey, np.uint8), np.linspace(0, 1, 64)[None])
    assert (np.diff(tile[0] @ [0.299, 0.587, 0.114]) > 0).all()


def test_pictures_are_labelled(noise_maps):
    shown = made_up(noise_maps)
    columns = ["image", "SRC", "L2", "L2-SP", "DELTA(w/o ATT)", "DELTA"]
    first, sixth, a_class = (
        figure1(shown, "cub_200_2011", "resnet101"),
        figure6(shown, "cub_200_2011", "resnet101"),
        class_figure(shown, 0, "cub_200_2011", "resnet101"),
    )
    for figure in (first, sixth, a_class):
        assert [title for axes in figure.axes if (title := axes.get_title())] == columns
        assert any("CUB-200-2011, ResNet-101" in text.get_text() for text in figure.texts)
    assert {"ant", "bee"} <= {text.get_text() for text in first.texts}
    assert "filter 7" in {text.get_text() for text in sixth.texts}
    assert {"all filters", "filter 7"} <= {text.get_text() for text in a_class.texts}
    # Each row has an image and five maps; the colour scale has its own axes.
    assert [len(figure.axes) for figure in (first, sixth, a_class)] == [2 * 6 + 1] * 3
    silent = [axes for axes in a_class.axes if any("no contrast" in text.get_text() for text in axes.texts)]
    assert silent == [a_class.axes[7]]


def test_no_text_leaves_a_picture(noise_maps):
    shown = made_up(noise_maps, ("black-and-tan_coonhound", "Chestnut_sided_Warbler"), (2047,))
    for draw in (figure1, figure6, lambda *arguments: class_figure(shown, 1, *arguments[1:])):
        figure = draw(shown, "my_own_photographs_of_dogs_and_birds", "resnet50_places365")
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        tiles = min(axes.get_position().x0 for axes in figure.axes) * figure.bbox.width
        for text in figure.texts:
            box = text.get_window_extent(renderer)
            assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0 and box.y1 <= figure.bbox.height
            if text.get_ha() == "right":
                assert box.x1 < tiles
