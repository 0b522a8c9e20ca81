"""The critical-difference diagram (Demšar 2006): the methods' mean ranks over data sets, and which of them differ."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from delta.report.figure_style import RC
from delta.report.names import display
from delta.report.ranks import LEAST_DATASETS, LEAST_DRAWN, LEVEL, Ranking, rankings

DARK, LINE = "#1e242b", "#888888"
MARGIN = 0.5  # for the names on either side, as a share of the axis
ROW, STEP = 0.19, 0.12  # inches: of a name, of a bar


@matplotlib.rc_context(RC)
def rank_diagram(frame: pd.DataFrame) -> Figure | None:
    """One panel per backbone with at least LEAST_DRAWN data sets; None if there is no such backbone.

    On an axis of mean ranks stands each method. Below it, bars join the methods that do not differ significantly; above
    it stands the critical difference. Where there are too few data sets to conclude anything, there are neither.

    Args:
        frame: see `delta.report.tables.methods.method_frame`.
    """
    drawn = {key: ranking for key, ranking in rankings(frame).items() if ranking.datasets >= LEAST_DRAWN}
    if not drawn:
        return None
    labels = dict(zip(frame["method"], frame["method_label"], strict=True))
    heights = [_height(ranking) for ranking in drawn.values()]
    figure = Figure(figsize=(7.4, 0.5 + sum(heights) + 0.5 * len(heights)))
    panels = figure.subplots(len(drawn), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, height, (backbone, ranking) in zip(panels, heights, drawn.items(), strict=True):
        title = f"{display(backbone)}: mean rank over {ranking.datasets} data sets, 1 is best"
        if not ranking.is_conclusive:
            title += f"\nfewer than {LEAST_DATASETS} data sets: nothing can be concluded"
        axes.set_title(title)
        above = _above(ranking)
        axes.set_ylim(height - above, -above)
        _panel(axes, ranking, labels)
    handles = [Line2D([], [], color=DARK, marker="o", linestyle="", label="mean rank of a method")]
    if any(ranking.is_conclusive for ranking in drawn.values()):
        joined = f"no significant difference (Friedman and Nemenyi, p ≥ {LEVEL:g})"
        handles.append(Line2D([], [], color=DARK, linewidth=3.5, label=joined))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _height(ranking: Ranking) -> float:
    """Of a panel, in inches."""
    return _above(ranking) + _first_row(ranking) + ROW * ((len(ranking.mean_ranks) + 1) // 2)


def _above(ranking: Ranking) -> float:
    """The room above the axis, in inches: for the ranks, and for the critical difference where there is one."""
    return 0.62 if ranking.differs else 0.25


def _first_row(ranking: Ranking) -> float:
    """How far below the axis the first names stand, in inches."""
    return 0.3 + STEP * len(ranking.groups if ranking.is_conclusive else [])


def _panel(axes: Axes, ranking: Ranking, labels: Mapping[str, str]) -> None:
    """Draw a ranking; y is in inches, downwards from the axis of ranks."""
    ranks = ranking.mean_ranks
    count, length = len(ranks), max(len(ranks) - 1, 1)
    low, high = 1 - MARGIN * length, count + MARGIN * length
    axes.set_xlim(low, high)
    axes.set_axis_off()
    axes.plot([1, count], [0, 0], color=DARK, linewidth=0.8)
    for tick in range(1, count + 1, 1 if count <= 12 else 2):
        axes.plot([tick, tick], [0, -0.05], color=DARK, linewidth=0.8)
        axes.text(tick, -0.08, str(tick), ha="center", va="bottom")
    for place, (method, rank) in enumerate(ranks.items()):
        is_left = place < (count + 1) // 2
        row = place if is_left else count - 1 - place
        y, edge = _first_row(ranking) + ROW * (row + 0.5), low if is_left else high
        inner = edge + (0.62 if is_left else -0.62) * MARGIN * length
        axes.plot([rank, rank, inner], [0, y, y], color=LINE, linewidth=0.7, zorder=1)
        axes.plot(rank, 0, "o", color=DARK, markersize=4, zorder=3)
        name, number = labels[str(method)], f"{rank:.2f}"
        axes.annotate(
            f"{name}  {number}" if is_left else f"{number}  {name}",
            (inner, y),
            xytext=(-3 if is_left else 3, 0),
            textcoords="offset points",
            ha="right" if is_left else "left",
            va="center",
        )
    if not ranking.is_conclusive:
        return
    for place, (first, last) in enumerate(ranking.groups):
        y = 0.14 + STEP * place
        axes.plot(ranks.iloc[[first, last]], [y, y], color=DARK, linewidth=3.5, solid_capstyle="butt", zorder=2)
    if not ranking.differs:
        return
    difference = ranking.critical_difference
    if 1 + difference <= high:
        axes.plot([1, 1 + difference], [-0.38, -0.38], "|-", color=DARK, linewidth=1, markersize=6)
    axes.text(1, -0.43, f"critical difference {difference:.2f}", ha="left", va="bottom")
