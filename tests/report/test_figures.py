"""The figures of synthetic results, large and small.

The tests compare what is drawn with hand computation and check that no text overlaps another or leaves the canvas.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from delta.methods.registry import KEYS
from delta.report.data_amount_figure import data_amount
from delta.report.differences import published_differences
from delta.report.figure_style import LOOKS, looks, wrapped
from delta.report.figures import accuracy, filter_distances, grid_search, learning_curves, save
from delta.report.forest import forest
from delta.report.names import display
from delta.report.rank_diagram import DARK, rank_diagram
from delta.report.ranks import rankings
from tests.helpers.clone import ROOT, Clone
from tests.helpers.grids import with_values

DATASETS = ["mit_indoors_67", "stanford_dogs_120", "caltech256_30", "caltech256_60", "cub_200_2011", "food_101"]
BACKBONES = ["resnet101", "inception_v3"]
METHODS = ["probe", "l2_fe", "l2", "l2_sp", "l2_sp_att", "delta_wo_att", "delta"]
LONG = "photographs_of_alpine_flowers_of_2024_2x"
POWERS = [0.0001, 0.001, 0.01, 0.1, 0.2]


def table(datasets: list[str], backbones: list[str], methods: list[str], std: float = 0.4) -> pd.DataFrame:
    keys = list(product(datasets, backbones, methods))
    rows = pd.DataFrame(keys, columns=["dataset", "backbone", "method"])
    rows = rows.assign(mean=np.linspace(55, 92, len(keys)), std=std, paper_mean=np.linspace(56, 91, len(keys)))
    return rows.assign(source_network=[sources(*key[:2]) for key in keys])


def sources(dataset: str, backbone: str) -> str:
    """The source networks of the paper's profile."""
    if (dataset, backbone) == ("mit_indoors_67", "resnet101"):
        return "ResNet-50, Places365"
    return f"{display(backbone)}, ImageNet"


def curves(epochs: list[float], seeds: int, dataset: str = "stanford_dogs_120") -> pd.DataFrame:
    keys = product(["l2_sp", "delta"], ["StepLR", "ExponentialLR"], range(seeds), epochs)
    rows = pd.DataFrame(keys, columns=["method", "schedule", "seed", "epoch"])
    speed = rows["method"].map({"l2_sp": 0.1, "delta": 0.2})
    top1 = 88 - 60 * np.exp(-speed * rows["epoch"]) + rows["seed"]
    return rows.assign(dataset=dataset, backbone="resnet101", top1=top1)


def grid(means: dict[tuple[float, float], float], folds: int = 5, dataset: str = "caltech256_60") -> pd.DataFrame:
    """Folds with the given mean of each cell; NaN for a cell that diverged on its last fold."""
    rows = []
    for (alpha, beta), mean in means.items():
        for fold in range(folds):
            failed = np.isnan(mean) and fold == folds - 1
            top1 = np.nan if failed else np.nan_to_num(mean, nan=99.0) + fold - (folds - 1) / 2
            rows.append((dataset, "resnet101", "delta", alpha, beta, fold, top1, "diverged" if failed else None))
    columns = ["dataset", "backbone", "method", "alpha", "beta", "fold", "top1", "problem"]
    return with_values(pd.DataFrame(rows, columns=columns))


def full_grid() -> pd.DataFrame:
    means = {(a, b): 80.0 + i - abs(j - 2) for (i, a), (j, b) in product(enumerate(POWERS), enumerate(POWERS))}
    return grid(means | {(0.2, 0.0001): np.nan})


def filters(count: int, stages: int, dataset: str = "stanford_dogs_120") -> pd.DataFrame:
    random = np.random.default_rng(0)
    stage = np.repeat([f"conv{number + 2}_x" for number in range(stages)], count)
    l2_sp = np.exp(random.normal(-3, 1, len(stage)))
    delta = l2_sp * np.exp(random.normal(0.5, 0.5, len(stage)))
    return pd.DataFrame({"dataset": dataset, "backbone": "resnet101", "stage": stage, "l2_sp": l2_sp, "delta": delta})


def compared(datasets: list[str], backbones: list[str]) -> pd.DataFrame:
    """The paper's differences, as those of data sets and backbones of other names."""
    rows = published_differences()
    rows = rows[(rows["dataset"] == "food_101") & (rows["backbone"] == "resnet101")]
    return pd.concat([rows.assign(dataset=key, backbone=network) for key, network in product(datasets, backbones)])


def ranked(methods: int, datasets: int, backbone: str = "resnet101", noise: float = 1.0) -> pd.DataFrame:
    """Means of methods that follow one another by one point, with noise."""
    names, random = [f"method {number}" for number in range(methods)], np.random.default_rng(0)
    rows = pd.DataFrame(product(map(str, range(datasets)), names), columns=["dataset", "method"])
    means = 70 - np.tile(np.arange(methods), datasets) + noise * random.normal(size=len(rows))
    return rows.assign(backbone=backbone, method_label=rows["method"].str.title(), mean=means)


def amounts(methods: list[str], numbers: list[float], apart: float = 3.0) -> pd.DataFrame:
    """Accuracies that rise with the number of training images and differ by so much from method to method."""
    rows = pd.DataFrame(product(methods, numbers), columns=["method", "train_per_class"])
    top1 = 50 + 10 * np.log(rows["train_per_class"]) + apart * rows["method"].map(methods.index)
    return rows.assign(backbone="resnet101", top1=top1, low=top1 - 2, high=top1 + 2)


FIGURES = {
    "amounts, four methods": lambda: data_amount(amounts(["probe", "l2", "l2_sp", "delta"], [5, 10, 20, 29.75])),
    "amounts, level": lambda: data_amount(amounts(METHODS, [5, 10, 20, 40], apart=0.01).assign(backbone=LONG)),
    "amounts, one seed": lambda: data_amount(amounts(["delta"], [2, 500]).assign(low=np.nan, high=np.nan)),
    "ranks, full size": lambda: rank_diagram(pd.concat([ranked(23, 6), ranked(23, 4, "inception_v3")])),
    "ranks, one bar": lambda: rank_diagram(ranked(7, 6, noise=1000)),
    "ranks, too few": lambda: rank_diagram(ranked(7, 3, LONG)),
    "ranks, two methods": lambda: rank_diagram(ranked(2, 5)),
    "forest, full size": lambda: forest(published_differences()),
    "forest, one": lambda: forest(compared(["my_birds"], ["resnet101"])),
    "forest, long names": lambda: forest(compared([LONG, LONG[::-1]], [LONG])),
    "forest, one without the other": lambda: forest(
        pd.concat([compared(DATASETS[:2], BACKBONES[:1]), compared(DATASETS[:1], BACKBONES[1:])])
    ),
    "accuracy, full size": lambda: accuracy(
        table(DATASETS, BACKBONES, METHODS), table(DATASETS, BACKBONES, METHODS[1:4] + METHODS[5:])
    ),
    "accuracy, fewer in Table 2": lambda: accuracy(
        table(DATASETS[:3], BACKBONES, METHODS), table(DATASETS[1:2], BACKBONES, ["delta"])
    ),
    "accuracy, one backbone in Table 2": lambda: accuracy(
        table(DATASETS, BACKBONES, METHODS), table(DATASETS, BACKBONES[1:], METHODS[1:])
    ),
    "accuracy, other networks throughout": lambda: accuracy(
        table(DATASETS, BACKBONES, METHODS[:2]).assign(source_network=f"resnet101, checkpoint {LONG}.pth")
    ),
    "accuracy, one": lambda: accuracy(table([LONG], [LONG[::-1]], ["delta"], std=np.nan)),
    "accuracy, long names": lambda: accuracy(
        table([LONG, LONG[::-1], "food_101"], [LONG, LONG[::-1]], METHODS), table([LONG], [LONG, LONG[::-1]], METHODS)
    ),
    "curves, full size": lambda: learning_curves(curves([float(epoch) for epoch in range(1, 49)], 5)),
    "curves, one": lambda: learning_curves(curves([0.4], 1, LONG).assign(backbone=LONG)),
    "grid, full size": lambda: grid_search(full_grid(), (0.01, 0.01)),
    "grid, 10 x 10": lambda: grid_search(
        grid({(a, b): 70 + a - b for a, b in product([0, 1e-5, *POWERS, 0.5, 1, 2], repeat=2)}, 2), (0.01, 0.01)
    ),
    "grid, 1 x 1": lambda: grid_search(
        grid({(0.01, 0.01): 50.0}, 2, LONG).assign(backbone=LONG), (0.0123456, 0.0123456)
    ),
    "grid, 1 x 5": lambda: grid_search(grid({(0.01, b): 50 - b for b in POWERS}, 2), (0.01, 0.01)),
    "grid, 5 x 1": lambda: grid_search(grid({(a, 0.01): 50 - a for a in POWERS}, 2), None),
    "grid, 3 x 2": lambda: grid_search(grid({(a, b): 50 - b for a in POWERS[:3] for b in (0, 0.1)}, 2), (0.01, 0)),
    "grid, all failed": lambda: grid_search(grid(dict.fromkeys(product(POWERS, POWERS), np.nan)), (0.01, 0.01)),
    "distances, full size": lambda: filter_distances(filters(3000, 4)),
    "distances, three stages": lambda: filter_distances(filters(24, 3, LONG).assign(backbone=LONG, l2_sp=0.0)),
    "distances, one": lambda: filter_distances(filters(1, 1, LONG).assign(backbone=LONG)),
}


def drawn_texts(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, object]]:
    """All visible texts, with font size and extent in pixels."""
    found, draw = {}, Text.draw

    def record(self, renderer, *args, **options):
        if self.get_visible() and self.get_text().strip():
            extent = Text.get_window_extent(self, renderer)
            found[id(self)] = (self.get_text(), self.get_fontsize(), extent)
        return draw(self, renderer, *args, **options)

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", record)
        canvas.draw()
    return list(found.values())


@pytest.mark.parametrize("name", FIGURES)
def test_texts_are_legible(name, monkeypatch):
    figure = FIGURES[name]()
    texts = drawn_texts(figure, monkeypatch)
    assert len(texts) > 5
    for text, size, extent in texts:
        assert size >= 7, text
        assert extent.x0 >= 0 and extent.y0 >= 0, text
        assert extent.x1 <= figure.bbox.width and extent.y1 <= figure.bbox.height, text
    for (one, _, a), (other, _, b) in combinations(texts, 2):
        across, up = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 0 or up <= 0, (one, other)
    # Long names must leave enough room for the panels.
    assert min(axes.bbox.width for axes in figure.axes) > (3.3 if "accuracy" in name else 2.4) * figure.dpi
    legends = figure.legends + [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    assert legends or "amounts" in name  # whose lines are labelled
    for legend, axes in product(legends, figure.axes):
        assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_overlapping_texts_are_detected(monkeypatch):
    figure = Figure()
    figure.text(0.5, 0.5, "one")
    figure.text(0.51, 0.5, "other")
    (_, _, a), (_, _, b) = drawn_texts(figure, monkeypatch)
    assert a.overlaps(b)


@pytest.mark.parametrize(
    "name",
    ["forest, one", "ranks, full size", "accuracy, fewer in Table 2", "grid, full size", "distances, three stages"],
)
def test_files_are_reproducible(name, tmp_path):
    figure = FIGURES[name]()
    for folder, drawn in {"one": figure, "again": figure, "anew": FIGURES[name]()}.items():
        (tmp_path / folder).mkdir()
        save(drawn, tmp_path / folder, "figure")
    for suffix in ("svg", "png"):
        written = {(tmp_path / folder / f"figure.{suffix}").read_bytes() for folder in ("one", "again", "anew")}
        assert len(written) == 1
    assert (tmp_path / "one/figure.png").read_bytes().startswith(b"\x89PNG")
    # Letters are drawn as paths, so no font is needed.
    assert "<text" not in (tmp_path / "one/figure.svg").read_text()


def test_accuracy_draws_mean_deviation_and_the_papers_mean():
    rows = pd.DataFrame(
        [
            ("my_birds", "resnet101", "l2", 50.0, 1.5, np.nan),
            ("food_101", "resnet101", "l2", 80.0, 0.5, 85.3),
            ("my_birds", "resnet101", "delta", 60.0, 2.0, np.nan),
            ("food_101", "resnet101", "delta", 82.0, 1.0, 86.3),
        ],
        columns=["dataset", "backbone", "method", "mean", "std", "paper_mean"],
    ).assign(source_network="ResNet-101, ImageNet")
    figure = accuracy(rows)
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["my_birds", "Food-101"]
    l2, delta = axes.containers
    assert list(l2.lines[0].get_xdata()) == [50, 80] and list(delta.lines[0].get_xdata()) == [60, 82]
    # Rows go from top to bottom: L2's first line is in the band of my_birds, above DELTA's.
    assert l2.lines[0].get_ydata() == pytest.approx([0 - 1 / 6, 1 - 1 / 6])
    assert delta.lines[0].get_ydata() == pytest.approx([1 / 6, 1 + 1 / 6])
    (bars,) = delta.lines[2]
    assert [(line[0][0], line[1][0]) for line in bars.get_segments()] == [(58, 62), (81, 83)]
    paper = [line.get_xdata() for line in axes.lines if line.get_marker() == "|"]
    np.testing.assert_array_equal(paper, [[np.nan, 85.3], [np.nan, 86.3]])
    assert "the paper's mean" in [text.get_text() for text in figure.legends[0].texts]


def test_accuracy_names_unusual_source_networks():
    panels = accuracy(table(DATASETS, BACKBONES, METHODS)).axes
    assert [axes.get_title() for axes in panels] == [
        "ResNet-101\nMIT Indoors 67: ResNet-50, Places365",
        "Inception-V3\nMIT Indoors 67: Inception-V3, ImageNet",
    ]


def test_accuracy_omits_a_panel_without_data():
    both, one = table(DATASETS, BACKBONES, METHODS), table(DATASETS, BACKBONES[1:], METHODS[1:])
    panels = accuracy(both, one).axes
    assert [axes.get_title().split("\n")[0] for axes in panels] == ["ResNet-101", "Inception-V3", "Inception-V3", ""]
    assert [axes.get_visible() for axes in panels] == [True, True, True, False]
    assert [bool(axes.get_xlabel()) for axes in panels] == [False, True, True, False]


def test_accuracy_legend_omits_missing_deviation_and_paper():
    rows = table(["my_birds"], ["resnet101"], ["l2", "delta"], std=np.nan).assign(paper_mean=np.nan)
    assert [text.get_text() for text in accuracy(rows).legends[0].texts] == ["L2", "DELTA"]


def bars(axes: Axes) -> list[tuple[float, float]]:
    """Where the thick lines of a diagram of ranks begin and end."""
    return [tuple(line.get_xdata()) for line in axes.lines if line.get_linewidth() > 3]


def test_ranks_are_drawn_with_bars_that_join_what_does_not_differ():
    frame = ranked(7, 6)
    figure = rank_diagram(frame)
    ranking, axes = rankings(frame)["resnet101"], figure.axes[0]
    assert ranking.differs
    points = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert points == pytest.approx(list(ranking.mean_ranks))
    assert bars(axes) == [tuple(ranking.mean_ranks.iloc[[first, last]]) for first, last in ranking.groups]
    texts = [text.get_text() for text in axes.texts]
    assert f"critical difference {ranking.critical_difference:.2f}" in texts
    assert "Method 0  1.00" in texts
    # The bar of the critical difference, to the scale of the axis.
    (difference,) = (line.get_xdata() for line in axes.lines if line.get_marker() == "|")
    assert difference[1] - difference[0] == pytest.approx(ranking.critical_difference)
    assert {line.get_color() for line in axes.lines} <= {DARK, "#888888"}  # grey as it is


def test_too_few_data_sets_say_so_and_join_nothing():
    few = rank_diagram(ranked(7, 4, noise=0)).axes[0]
    assert "nothing can be concluded" in few.get_title()
    assert not bars(few)
    assert not [text for text in few.texts if "critical" in text.get_text()]
    assert rank_diagram(ranked(7, 2)) is None


def test_methods_that_friedmans_test_does_not_tell_apart_have_one_bar():
    alike = ranked(7, 6, noise=1000)
    axes = rank_diagram(alike).axes[0]
    ranks = rankings(alike)["resnet101"].mean_ranks
    assert bars(axes) == [(ranks.iloc[0], ranks.iloc[-1])]
    assert not [text for text in axes.texts if "critical" in text.get_text()]


def test_learning_curves_are_means_over_seeds():
    rows = pd.DataFrame(
        [
            ("delta", "StepLR", 0, 1.0, 50.0),
            ("delta", "StepLR", 1, 1.0, 54.0),
            ("delta", "StepLR", 0, 1.5, 60.0),
            ("delta", "StepLR", 1, 1.5, 61.0),
            ("delta", "ExponentialLR", 0, 1.0, 40.0),
            ("delta", "ExponentialLR", 1, 1.0, 42.0),
            ("delta", "ExponentialLR", 0, 1.5, 43.0),
            ("delta", "ExponentialLR", 1, 1.5, 43.0),
        ],
        columns=["method", "schedule", "seed", "epoch", "top1"],
    ).assign(dataset="food_101", backbone="resnet101")
    figure = learning_curves(rows)
    (axes,) = figure.axes
    drawn = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
    assert drawn == {"DELTA, StepLR": ([1, 1.5], [52, 60.5]), "DELTA, ExponentialLR": ([1, 1.5], [41, 43])}
    band = axes.collections[0].get_paths()[0].vertices
    # The sample deviation of 50 and 54 is √8.
    assert band[:, 1].min() == pytest.approx(52 - 8**0.5)
    assert sorted(band[band[:, 0] == 1.5][:, 1])[-1] == pytest.approx(60.5 + 0.5**0.5)
    assert "2 seeds" in figure.legends[0].get_title().get_text()
    single = learning_curves(rows[rows["seed"] == 0])
    assert not single.axes[0].collections
    assert single.legends[0].get_title().get_text() == "one seed"


def test_curves_differ_without_colour():
    lines = learning_curves(curves([1.0, 2.0, 3.0], 2)).axes[0].lines
    shapes = {(line.get_linestyle(), line.get_marker(), line.get_markerfacecolor() == "white") for line in lines}
    assert len(shapes) == len(lines) == 4
    greys = sorted(255 * np.dot(to_rgb(look.colour), (0.299, 0.587, 0.114)) for look in LOOKS.values())
    assert min(np.diff(greys)) > 12
    assert len({look.marker for look in LOOKS.values()}) == len(LOOKS)


def test_a_users_method_has_its_own_markers():
    found = looks(["mine", "delta", "yours"])
    assert found["delta"] == LOOKS["delta"]
    assert len({found["mine"], found["yours"], *LOOKS.values()}) == len(LOOKS) + 2


def test_no_two_methods_look_alike():
    assert len(set(looks(KEYS).values())) == len(KEYS)


def grid_texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[1].get_legend().texts]


def frames(figure: Figure) -> set[tuple[float, float]]:
    """The lower left corners of the framed cells of the map: column − ½, row − ½."""
    return {p.get_xy() for p in figure.axes[1].patches if isinstance(p, Rectangle) and not p.get_fill()}


def test_grid_draws_means_and_marks_winner_and_fixed_pair():
    means = {(0, 0.1): 60.0, (0, 1): 70.0, (0.5, 0.1): 80.0, (0.5, 1): 75.0}
    figure = grid_search(grid(means), (0.5, 1))
    left, right = figure.axes
    lines = {line.get_label(): list(line.get_ydata()) for line in left.lines if line.get_label().startswith("α")}
    assert lines == {"α = 0": [60, 70], "α = 0.5": [80, 75]}
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["0.1", "1"]
    assert right.images[0].get_array().tolist() == [[60, 70], [80, 75]]
    assert [text.get_text() for text in right.texts] == ["60.0", "70.0", "80.0", "75.0"]
    assert grid_texts(figure) == ["winner, α = 0.5, β = 0.1: 80.0 %", "fixed pair, α = 0.5, β = 1: 75.0 %"]
    assert figure.get_suptitle() == "Caltech 256-60, ResNet-101\nDELTA"
    assert grid_search(grid(means).assign(method="l2_sp"), (0.5, 1)).get_suptitle().endswith("\nL2-SP")
    assert frames(figure) == {(-0.5, 0.5), (0.5, 0.5)}
    (star,) = [line for line in left.lines if line.get_marker() == "*"]
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (0, 80)


def test_a_search_over_alpha_alone_has_it_on_the_horizontal_axis():
    figure = grid_search(grid({(0.001, 0.01): 60.0, (0.01, 0.01): 80.0, (0.1, 0.01): 70.0}), None)
    left, right = figure.axes
    (line,) = [line for line in left.lines if line.get_label() == "β = 0.01"]
    assert list(line.get_ydata()) == [60, 80, 70]
    assert left.get_xlabel() == right.get_xlabel() == "α"
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["0.001", "0.01", "0.1"]
    assert right.images[0].get_array().tolist() == [[60, 80, 70]]
    assert grid_texts(figure) == ["winner, α = 0.01, β = 0.01: 80.0 %"]
    assert frames(figure) == {(0.5, -0.5)}


def test_ties_in_the_grid_go_to_the_smaller_alpha_then_beta():
    means = {(0.2, 0.1): 80.0, (0.1, 0.2): 80.0, (0.1, 0.1): 79.0, (0.2, 0.2): 80.0, (0.1, 0.3): 80.0, (0.2, 0.3): 80.0}
    figure = grid_search(grid(means), (0.1, 0.2))
    assert grid_texts(figure) == ["winner, α = 0.1, β = 0.2: 80.0 %", "fixed pair, α = 0.1, β = 0.2: 80.0 %"]
    assert frames(figure) == {(0.5, -0.5)}


def test_a_failed_cell_is_shown_and_never_wins():
    # Its other four folds are at 99 %.
    figure = grid_search(grid({(0.1, 0.1): 80.0, (0.1, 0.2): np.nan, (0.2, 0.1): 70.0, (0.2, 0.2): 60.0}), (0.1, 0.2))
    left, right = figure.axes
    assert "winner, α = 0.1, β = 0.1: 80.0 %" in grid_texts(figure)
    assert "fixed pair, α = 0.1, β = 0.2: failed" in grid_texts(figure)
    assert "failed: a fold diverged (×)" in grid_texts(figure)
    (failed,) = [text for text in right.texts if text.get_text() == "failed"]
    assert failed.get_position() == (1, 0)
    (hatched,) = [patch for patch in right.patches if patch.get_hatch()]
    assert hatched.get_xy() == (0.5, -0.5)
    (cross,) = [line for line in left.lines if line.get_marker() == "x"]
    assert abs(cross.get_xdata()[0] - 1) < 0.5


def test_grid_names_a_missing_winner_and_a_fixed_pair_outside():
    failed = grid_search(grid({(0.1, 0.1): np.nan}), (0.01, 0.02))
    assert grid_texts(failed)[:2] == ["no winner: every cell failed", "fixed α = 0.01, β = 0.02: not in the grid"]
    assert not frames(failed)


def test_filter_distances_are_sorted_and_their_share_is_counted():
    rows = pd.DataFrame(
        [
            ("conv2_x", 0.1, 0.2),
            ("conv2_x", 0.4, 0.3),
            ("conv2_x", 0.0, 0.5),
            ("conv2_x", 0.2, 0.2),  # equal is not larger
            ("conv3_x", 1.0, 2.0),
            ("conv3_x", 3.0, 9.0),
            ("conv3_x", 2.0, 4.0),
            ("conv3_x", 0.2, 0.1),
        ],
        columns=["stage", "l2_sp", "delta"],
    ).assign(dataset="food_101", backbone="resnet101")
    figure = filter_distances(rows)
    first, second = figure.axes
    assert [list(line.get_ydata()) for line in first.lines] == [[0.4, 0.2, 0.1, 0], [0.5, 0.3, 0.2, 0.2]]
    assert [list(line.get_ydata()) for line in second.lines] == [[3, 2, 1, 0.2], [9, 4, 2, 0.1]]
    assert list(first.lines[0].get_xdata()) == [1, 2, 3, 4]
    assert first.get_title() == "conv2_x (4 filters)"
    assert second.get_title() == "conv3_x (4 filters)"
    assert figure.get_suptitle() == "Food-101, ResNet-101"
    assert (first.get_yscale(), second.get_yscale()) == ("linear", "log")


def test_long_names_are_broken_between_words():
    assert wrapped("photographs_of_alpine_flowers", 16) == "photographs_of_\nalpine_flowers"
    assert wrapped("Caltech 256-60", 40) == "Caltech 256-60"
    assert max(len(line) for line in wrapped("x" * 40, 22).split("\n")) == 22


def test_names_are_the_papers_or_the_key():
    assert (display("caltech256_60"), display("my_birds")) == ("Caltech 256-60", "my_birds")


def test_figures_do_not_import_torch():
    code = "import sys, delta.report.figures; sys.exit('torch' in sys.modules or 'matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    ("template", "x", "y", "columns"),
    [
        ("curves", "epoch", "top1", ["method", "schedule"]),
        ("curves", "percent", "distance", ["method", "stage"]),
        ("grid", "beta", "top1", ["method", "alpha"]),
    ],
)
def test_dvc_plots_overlay_two_revisions(template, x, y, columns, tmp_path):
    clone = Clone(tmp_path)
    clone.run("git", "init", "-q")
    clone.run("dvc", "init", "-q")
    shutil.copytree(ROOT / ".dvc/plots", tmp_path / ".dvc/plots")
    options = {"template": template, "x": x, "y": y, "x_label": "across", "y_label": "up", "title": "all"}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"plots": [{"rows.csv": options}]}))
    header = ",".join(["dataset", "backbone", *columns, x, y])
    for top1 in ("70", "80"):
        (tmp_path / "rows.csv").write_text(f"{header}\nmine,net,{','.join(columns)},0.5,{top1}\n")
        clone.commit()
    shown = clone.run("dvc", "plots", "diff", "HEAD~1", "HEAD", "--json")
    (plot,) = json.loads(shown)["data"]["rows.csv"]
    assert "<DVC_" not in json.dumps(plot["content"])
    assert {(row["rev"], row[y]) for row in plot["content"]["data"]["values"]} == {("HEAD~1", "70"), ("HEAD", "80")}
    wanted = set(re.findall(r"datum\.(\w+)", json.dumps(plot["content"]))) - {"schedule", "stage", "y"}
    assert wanted <= set(plot["content"]["data"]["values"][0])
