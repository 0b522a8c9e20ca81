"""The report's plots: all accuracies at a glance, and Figures 3, 4 and 5 of the paper.

Each function takes rows of the report's CSV files and returns a figure; `save` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, StrMethodFormatter
from matplotlib.transforms import offset_copy

from delta.analysis.grid_result import best_cell, cells
from delta.report.figure_style import RC, looks, pair_title, wrapped
from delta.report.grid_panels import SYMBOLS, grid_lines, grid_map, grid_marks
from delta.report.names import display, label
from delta.report.results import KEYS
from delta.report.sources import unusual_sources

STEPS = [1, 2, 5, 10]
LINE_STYLES = {"StepLR": "-", "ExponentialLR": (0, (4, 1.5))}


@matplotlib.rc_context(RC)
def accuracy(table1: pd.DataFrame, table2: pd.DataFrame | None = None) -> Figure:
    """Mean ± sample standard deviation of top-1 (%) of every method, and the paper's mean beside it.

    A column of panels a backbone; Table 1 in the first row, Table 2 in the second where there is one.

    Args:
        table1, table2: one row per data set, backbone and method: source_network, mean, std (NaN for one seed),
            paper_mean (may be NaN). Table 2 may lack some of Table 1's backbones.
    """
    tables = [table for table in (table1, table2) if table is not None]
    columns = table1["backbone"].nunique()
    notes = [_source_notes(table) for table in tables]
    slots = [table["dataset"].nunique() * (table["method"].nunique() + 1) for table in tables]
    lines = sum(max((text.count("\n") for text in texts.values()), default=0) for texts in notes)
    height = 1.3 + sum(0.5 + 0.15 * count for count in slots) + 0.15 * lines
    figure = Figure(figsize=(1.8 + 3.4 * columns, height))
    grid = figure.subplots(
        len(tables), columns, squeeze=False, sharex=True, sharey="row", height_ratios=[3 + n for n in slots]
    )
    styles = looks(pd.concat(tables)["method"].unique())
    for row, (table, name) in enumerate(zip(tables, ("Table 1", "Table 2: improved view"), strict=False)):
        for axes, (backbone, panel) in zip(grid[row], table.groupby("backbone", sort=False), strict=False):
            title = wrapped(display(backbone), 38) + (f"\n{name}" if len(tables) > 1 else "")
            axes.set_title(title + notes[row].get(backbone, ""))
            _accuracy_panel(axes, panel, list(table["dataset"].unique()), list(table["method"].unique()), styles)
        for axes in grid[row, table["backbone"].nunique() :]:
            axes.set_visible(False)
    for panels in grid.T:
        lowest = [axes for axes in panels if axes.get_visible()][-1]
        lowest.tick_params(labelbottom=True)
        lowest.set_xlabel("top-1 on the test images (%)")
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, linestyle="", label=label(method))
        for method, look in styles.items()
    ]
    if any(table["std"].notna().any() for table in tables):
        handles.append(Line2D([], [], color="#555555", linewidth=1, label="± standard deviation over the seeds"))
    if any(table["paper_mean"].notna().any() for table in tables):
        handles.append(Line2D([], [], color="black", marker="|", markersize=9, linestyle="", label="the paper's mean"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2 if columns == 1 else 4)
    return figure


def _source_notes(table: pd.DataFrame) -> dict[str, str]:
    """By backbone, a line below its title for each data set whose source network is unusual."""
    notes: dict[str, str] = {}
    for (dataset, backbone), source in unusual_sources(table).items():
        notes[backbone] = notes.get(backbone, "") + "\n" + wrapped(f"{display(dataset)}: {source}", 38)
    return notes


def _accuracy_panel(axes: Axes, panel: pd.DataFrame, datasets: list[str], methods: list[str], styles: dict) -> None:
    step = 1 / (len(methods) + 1)
    axes.set(ylim=(len(datasets) - 0.5, -0.5), yticks=range(len(datasets)))
    axes.set_yticklabels([wrapped(display(dataset), 22) for dataset in datasets])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    for place in range(0, len(datasets), 2):
        axes.axhspan(place - 0.5, place + 0.5, color="#f3f3f3", linewidth=0, zorder=0)
    for number, method in enumerate(methods):
        rows = panel[panel["method"] == method]
        y = [datasets.index(dataset) + (number + 1) * step - 0.5 for dataset in rows["dataset"]]
        look = styles[method]
        axes.plot(rows["paper_mean"], y, "|", color="black", markersize=9, markeredgewidth=1)
        axes.errorbar(
            rows["mean"], y, xerr=rows["std"], fmt=look.marker, color=look.colour, elinewidth=1, label=label(method)
        )


@matplotlib.rc_context(RC)
def learning_curves(curves: pd.DataFrame) -> Figure:
    """Figure 3: test top-1 (%) by epoch, one curve per method and schedule: the seeds' mean, ± one sample deviation.

    Args:
        curves: of one data set and backbone, one row per method, schedule, seed and epoch: top1.
    """
    figure = Figure(figsize=(6.6, 4.6))
    axes = figure.subplots()
    styles = looks(curves["method"].unique())
    groups = curves.groupby(["method", "schedule"], sort=False)
    for number, ((method, schedule), runs) in enumerate(groups):
        epochs = runs.groupby("epoch")["top1"]
        mean, std = epochs.mean(), epochs.std()
        every = max(1, len(mean) // 7)
        axes.plot(
            mean.index,
            mean,
            linestyle=LINE_STYLES[schedule],
            color=styles[method].colour,
            marker=styles[method].marker,
            # Hollow for ExponentialLR, and at other epochs than the other curves, as some coincide.
            markerfacecolor=styles[method].colour if schedule == "StepLR" else "white",
            markevery=(number * every // groups.ngroups, every),
            label=f"{label(method)}, {schedule}",
        )
        if std.notna().any():
            axes.fill_between(mean.index, mean - std, mean + std, color=styles[method].colour, alpha=0.15, linewidth=0)
    seeds = curves["seed"].nunique()
    axes.set(xlabel="epoch", ylabel="top-1 on the test images (%)", xlim=(0, 1.03 * curves["epoch"].max()))
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=STEPS, integer=True))
    axes.set_title(pair_title(curves["dataset"].iloc[0], curves["backbone"].iloc[0]))
    figure.legend(
        loc="outside lower center",
        ncols=len(styles),
        handlelength=4,
        title="one seed" if seeds == 1 else f"mean of {seeds} seeds, band: ± one standard deviation",
    )
    return figure


@matplotlib.rc_context(RC)
def grid_search(rows: pd.DataFrame, fixed: tuple[float, float] | None) -> Figure:
    """Figure 4: cross-validated accuracy (%) over α and β, as lines and as a heat map, with the best and fixed pair.

    The values of α and β are spaced evenly, as in the paper, so that 0 can be among them. A search over α alone has α
    on the horizontal axis.

    Args:
        rows: of one data set, backbone and method, one row per cell and fold; see `delta.analysis.grid_result.cells`.
        fixed: the method's α and β in params.yaml, which need not be in the grid; None if it takes the best pair.
    """
    table = cells(rows)
    names = ["alpha", "beta"] if table["beta"].nunique() > 1 or table["alpha"].nunique() == 1 else ["beta", "alpha"]
    means = table.pivot(index=names[0], columns=names[1], values="mean")
    best = best_cell(table)
    winner = None if best is None else _place(means, {name: best[name] for name in names})
    fixed_cell = None if fixed is None else _place(means, {"alpha": fixed[0], "beta": fixed[1]})

    rows_drawn, columns = means.shape
    width, height = max(2.9, 0.55 * columns + 0.4), max(1.9, 0.36 * rows_drawn)
    figure = Figure(figsize=(2 * width + 1.2, height + 1.9 + 0.08 * rows_drawn))
    left, right = figure.subplots(1, 2)
    dataset, backbone, method = rows[KEYS].iloc[0]
    figure.suptitle(f"{pair_title(dataset, backbone)}\n{label(method)}")
    lines = grid_lines(left, means)
    grid_map(right, means)
    for axes in (left, right):
        axes.set_xticks(range(columns), [f"{value:g}" for value in means.columns])
        axes.set_xlabel(SYMBOLS[names[1]])
    marks = grid_marks(left, right, means, winner, fixed_cell, fixed)
    if means.isna().any(axis=None):
        marks.append(Patch(facecolor="white", edgecolor="#666666", hatch="////", label="failed: a fold diverged (×)"))
    for axes, handles in ((left, lines), (right, marks)):
        axes.legend(
            handles=handles,
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
            bbox_transform=offset_copy(axes.transAxes, figure, y=-34, units="points"),
            ncols=min(3, len(lines)) if axes is left else 1,
            labelspacing=0.5 if axes is left else 0.8,
        )
    return figure


def _place(means: pd.DataFrame, values: Mapping[str, float]) -> tuple[int, int] | None:
    """The row and the column of a pair of values of a table with the names `alpha` and `beta`; None if it has none."""
    axes = (means.index, means.columns)
    found = np.argwhere(np.outer(*(np.isclose(axis, values[axis.name]) for axis in axes)))
    return (int(found[0][0]), int(found[0][1])) if len(found) else None


@matplotlib.rc_context(RC)
def filter_distances(frame: pd.DataFrame) -> Figure:
    """Figure 5: how far each convolution filter moved, largest first, one panel per stage, L2-SP against DELTA.

    Args:
        frame: of one data set and backbone, one row per filter: stage, l2_sp, delta (Euclidean distance).
    """
    stages = list(frame["stage"].unique())
    columns = min(2, len(stages))
    figure = Figure(figsize=(7.4, 2.3 * -(-len(stages) // columns) + 1.3))
    panels = figure.subplots(-(-len(stages) // columns), columns, squeeze=False)
    for axes, stage in zip(panels.flat, stages, strict=False):
        filters = frame[frame["stage"] == stage]
        for number, (method, look) in enumerate(looks(["l2_sp", "delta"]).items()):
            distances = filters[method].sort_values(ascending=False)
            every = max(1, len(distances) // 6)
            axes.plot(
                range(1, len(distances) + 1),
                distances,
                color=look.colour,
                marker=look.marker,
                markersize=4,
                linestyle=["--", "-"][number],
                markevery=((number * every // 2) % len(distances), every),
                label=label(method) if stage == stages[0] else None,
            )
        _logarithmic_if_wide(axes, filters[["l2_sp", "delta"]].to_numpy())
        axes.set_xlim(0, 1.03 * len(filters))
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS, integer=True))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.set_title(f"{stage} ({len(filters):,} filters)")
    for axes in panels.flat[len(stages) - columns : len(stages)]:
        axes.set_xlabel("filter, by falling distance")
    for axes in panels.flat[len(stages) :]:
        axes.remove()
    figure.supylabel("Euclidean distance from the starting point", fontsize=8)
    figure.suptitle(pair_title(frame["dataset"].iloc[0], frame["backbone"].iloc[0]))
    figure.legend(loc="outside lower center", ncols=2, handlelength=4)
    return figure


def _logarithmic_if_wide(axes: Axes, distances: np.ndarray) -> None:
    """A logarithmic axis if the distances span more than one decade; it leaves out filters that did not move."""
    shifted = distances[distances > 0]
    if len(shifted) and shifted.max() > 10 * shifted.min():
        axes.set_yscale("log", nonpositive="clip")
        axes.minorticks_off()
        narrow = shifted.max() < 1000 * shifted.min()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write <name>.svg and <name>.png (150 dpi); the same figure gives the same bytes."""
    with matplotlib.rc_context(RC):
        # Computed again, the constrained layout would differ by a fraction of a pixel.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
        figure.savefig(folder / f"{name}.png", dpi=150, metadata={"Software": None})
