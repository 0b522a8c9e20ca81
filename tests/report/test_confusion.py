"""Confusion matrices: counted by hand, drawn, and as DVC's template counts them."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from dvc_render.vega import VegaRenderer
from matplotlib.text import Text

from delta.report.confusion import OTHER, SHOWN_CLASSES, confusion_matrix, plot_rows, shown_classes
from delta.report.confusion_figure import confusion
from delta.report.figures import save
from delta.report.predictions import Predictions, read_all_predictions
from tests.helpers.clone import ROOT, Clone
from tests.helpers.three_classes import write_runs

LABELS = {
    "l2_fe": "L2-FE",
    "l2": "L2",
    "l2_sp": "L2-SP",
    "l2_sp_att": "L2-SP(ATT)",
    "delta_wo_att": "DELTA(w/o ATT)",
    "delta": "DELTA",
}
PLOT = {"template": "confusion", "x": "predicted", "y": "target", "x_label": "prediction", "y_label": "label"}


@pytest.fixture
def predictions(tmp_path) -> Predictions:
    (found,) = read_all_predictions(write_runs(tmp_path / "runs"))
    return found


def drawn(classes: int, methods: int = 6, name: str = "class number {:03d}", dataset: str = "my_birds") -> Predictions:
    """Two seeds of each method on ten images a class, three of which are taken for one of the next classes."""
    random = np.random.default_rng(0)
    targets = np.repeat(np.arange(classes), 10)
    keys = [(method, label, seed) for method, label in list(LABELS.items())[:methods] for seed in (0, 1)]
    steps = np.where(np.arange(len(targets)) % 10 < 3, random.integers(1, 9, (len(keys), len(targets))), 0)
    return Predictions(
        dataset,
        "resnet101",
        [name.format(number) for number in range(classes)],
        [f"{number}.jpg" for number in range(len(targets))],
        targets,
        pd.DataFrame(keys, columns=["method", "method_label", "seed"]),
        (targets + steps) % classes,
        np.full(steps.shape, 0.5),
        np.full(steps.shape, 0.5),
    )


def test_shares_are_of_a_class_over_all_seeds(predictions):
    matrix = confusion_matrix(predictions, "l2")
    assert list(matrix.index) == list(matrix.columns) == ["ant", "bee", "cat"]
    assert matrix.to_numpy().tolist() == [[75, 25, 0], [50, 50, 0], [0, 100, 0]]
    assert confusion_matrix(predictions, "delta").to_numpy().tolist() == [[100, 0, 0], [75, 25, 0], [50, 50, 0]]


def test_of_many_classes_the_hardest_are_drawn():
    found = drawn(40)
    found.predicted[:, 200:300] = found.targets[200:300]  # 20 to 29 are always right
    shown = shown_classes(found)
    assert shown.tolist() == [*range(20), *range(30, 40)]
    matrix = confusion_matrix(found, "l2")
    assert matrix.shape == (SHOWN_CLASSES, SHOWN_CLASSES + 1)
    assert matrix.columns[-1] == OTHER
    np.testing.assert_allclose(matrix.sum(axis=1), 100)
    others = found.predicted[found.of("l2")][:, 190:200]
    assert matrix.loc["class number 019", OTHER] == pytest.approx(100 * np.isin(others, range(20, 30)).mean())


def test_a_class_without_test_images_is_a_column_alone(predictions):
    found = Predictions(**{**vars(predictions), "classes": ["ant", "bee", "cat", "dog"]})
    matrix = confusion_matrix(found, "l2")
    assert list(matrix.index) == ["ant", "bee", "cat"]
    assert matrix[OTHER].tolist() == [0, 0, 0]


def test_dvc_counts_the_first_seed(predictions):
    tables = plot_rows(predictions)
    assert list(tables) == ["d-b-l2", "d-b-delta"]
    rows = tables["d-b-l2"].to_dict("records")
    assert [tuple(row.values()) for row in rows] == [
        ("ant", "ant"),
        ("ant", "bee"),
        ("bee", "bee"),
        ("bee", "ant"),
        ("cat", "bee"),
    ]
    renderer = VegaRenderer([{**row, "rev": "workspace"} for row in rows], "d-b-l2.csv", **PLOT)
    content = renderer.get_filled_template()
    assert "<DVC_" not in json.dumps(content)
    count, *_ = content["spec"]["transform"]
    assert count == {"aggregate": [{"op": "count", "as": "xy_count"}], "groupby": ["target", "predicted"]}
    counted = Counter((row["target"], row["predicted"]) for row in content["data"]["values"])
    assert counted[("bee", "ant")] == counted[("cat", "bee")] == 1


def test_dvc_gets_few_rows_of_many_classes():
    rows = plot_rows(drawn(400))["my_birds-resnet101-delta"]
    assert len(rows) == 10 * SHOWN_CLASSES
    assert rows["target"].nunique() == SHOWN_CLASSES
    assert OTHER in set(rows["predicted"]) <= {OTHER, *rows["target"]}


def test_dvc_plots_show_the_folder(tmp_path, predictions):
    clone = Clone(tmp_path / "clone")
    (clone.root / "plots").mkdir(parents=True)
    clone.run("git", "init", "-q")
    clone.run("dvc", "init", "-q")
    shutil.copytree(ROOT / ".dvc/plots", clone.root / ".dvc/plots")
    for name, table in plot_rows(predictions).items():
        table.to_csv(clone.root / "plots" / f"{name}.csv", index=False)
    (clone.root / "dvc.yaml").write_text(json.dumps({"plots": [{"plots": PLOT}]}))
    shown = json.loads(clone.run("dvc", "plots", "show", "--json"))
    assert not shown.get("errors")
    assert set(shown["data"]) == {"plots/d-b-l2.csv", "plots/d-b-delta.csv"}
    ((plot,),) = [shown["data"]["plots/d-b-delta.csv"]]
    assert plot["content"]["title"]["text"] == "plots/d-b-delta.csv"
    pairs = [(row["target"], row["predicted"]) for row in plot["content"]["data"]["values"]]
    assert Counter(pairs) == {("ant", "ant"): 2, ("bee", "bee"): 1, ("bee", "ant"): 1, ("cat", "bee"): 1}


def texts(figure) -> list[tuple[str, float, object]]:
    """All visible texts, with font size and extent in pixels."""
    figure.draw_without_rendering()
    visible = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [(text.get_text(), text.get_fontsize(), text.get_window_extent()) for text in visible]


LONG = "Australian terrier of class {:d}"


@pytest.mark.parametrize(
    "found",
    [
        drawn(2, 1, "{:d}"),
        drawn(3, 2),
        drawn(12),
        drawn(13, 5),
        drawn(30, name=LONG),
        drawn(120, 5, name=LONG, dataset="photographs_of_alpine_flowers_of_2024_and_of_the_year_before"),
    ],
    ids=lambda found: f"{len(found.classes)} classes, {len(found.methods)} methods",
)
def test_the_figure_is_legible(found):
    figure = confusion(found)
    seen = texts(figure)
    for text, size, extent in seen:
        assert size >= 7, text
        assert extent.x0 >= 0 and extent.y0 >= 0, text
        assert extent.x1 <= figure.bbox.width and extent.y1 <= figure.bbox.height, text
    for (one, _, a), (other, _, b) in combinations(seen, 2):
        across, up = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 0 or up <= 0, (one, other)


def test_the_figure_shows_the_shares_in_grey(predictions):
    figure = confusion(predictions)
    first, second, _ = figure.axes
    # Of five images each, over two seeds: 5 and 5 of 10.
    assert [axes.get_title() for axes in (first, second)] == ["L2: 50.0 % right", "DELTA: 50.0 % right"]
    assert first.images[0].get_array().tolist() == [[75, 25, 0], [50, 50, 0], [0, 100, 0]]
    assert [text.get_text() for text in first.texts] == ["75", "25", "50", "50", "100"]
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["ant", "bee", "cat"]
    assert [tick.get_text() for tick in second.get_yticklabels()] == [""] * 3
    shades = first.images[0].to_rgba(np.array([[0.0, 5.0, 50.0, 100.0]]), norm=True)[0, :, :3]
    assert (shades == shades[:, :1]).all()  # grey
    assert shades[0, 0] - shades[1, 0] > 0.1  # 5 % can be told from 0
    assert not confusion(drawn(13)).axes[0].texts


def test_the_figure_is_reproducible(tmp_path, predictions):
    for name in ("one", "other"):
        save(confusion(predictions), tmp_path, name)
    for suffix in ("svg", "png"):
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"other.{suffix}").read_bytes()
