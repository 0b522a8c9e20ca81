"""The two panels of Figure 4: accuracy over β with a line for each α, and the heat map of the cells.

With one β, and several α, it is the other way round. Below, the lines are rows of a table whose index and columns have
the names `alpha` and `beta`.
"""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.transforms import offset_copy

SYMBOLS = {"alpha": "α", "beta": "β"}
WHITE_EDGE = [withStroke(linewidth=4, foreground="white")]


def grid_lines(axes: Axes, means: pd.DataFrame) -> list[Line2D]:
    """Draw a line for each row, with a cross on the axis for a failed cell, and return the lines for a legend.

    Args:
        means: percent; NaN where the cell failed.
    """
    symbol = SYMBOLS[means.index.name]
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(means)))
    lines = []
    for number, (value, line) in enumerate(means.iterrows()):
        style = {"color": colours[number], "marker": "osD^vP<>"[number % 8]}
        places = np.arange(len(line))
        lines += axes.plot(
            places, line, linestyle=["-", "--", "-.", ":"][number % 4], label=f"{symbol} = {value:g}", **style
        )
        # Crosses on the axis, side by side if several rows failed in the same column.
        for place in places[line.isna()]:
            x = place + 0.09 * (number - (len(means) - 1) / 2)
            on_axis = axes.get_xaxis_transform()
            axes.plot(x, 0, "x", color=colours[number], transform=on_axis, clip_on=False, zorder=5)
    axes.set(xlim=(-0.5, means.shape[1] - 0.5), ylabel="cross-validated top-1 (%)")
    axes.margins(y=0.12)
    if means.isna().all(axis=None):
        axes.set_ylim(0, 100)
    return lines


def grid_map(axes: Axes, means: pd.DataFrame) -> None:
    """Draw the cells in colours that can also be told apart in grey, with their numbers; failed cells are hatched."""
    colours = matplotlib.colormaps["cividis"]
    image = axes.imshow(np.ma.masked_invalid(means), cmap=colours, aspect="auto", origin="lower")
    axes.set_yticks(range(len(means)), [f"{value:g}" for value in means.index])
    axes.set_ylabel(SYMBOLS[means.index.name])
    axes.set_title("cross-validated top-1 (%)")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for (row, column), mean in np.ndenumerate(means):
        if np.isnan(mean):
            axes.add_patch(
                Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor="white", edgecolor="#aaaaaa", hatch="////")
            )
            axes.text(column, row, "failed", ha="center", va="center", fontsize=7, path_effects=WHITE_EDGE)
        else:
            luminance = np.dot(colours(image.norm(mean))[:3], (0.2126, 0.7152, 0.0722))
            colour = "black" if luminance > 0.4 else "white"
            axes.text(column, row, f"{mean:.1f}", ha="center", va="center", color=colour)


def grid_marks(
    left: Axes,
    right: Axes,
    means: pd.DataFrame,
    winner: tuple[int, int] | None,
    fixed_cell: tuple[int, int] | None,
    fixed: tuple[float, float] | None,
) -> list[Line2D]:
    """Mark the best pair with a star and the fixed pair, if any, with a ring; in the heat map their cells are framed.

    Args:
        left, right: the panels that `grid_lines` and `grid_map` drew `means` into.
        winner, fixed_cell: row and column of the best and of the fixed pair; None if every cell failed, or the fixed
            pair is not in the grid.
        fixed: α and β of the fixed pair; None if there is none.

    Returns:
        The marks, labelled for a legend.
    """

    def mark(cell: tuple[int, int], side: int, marker: str, size: int, **style: object) -> Line2D:
        row, column = cell
        frame = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, linewidth=1.8, path_effects=WHITE_EDGE, zorder=3)
        right.add_patch(frame).set_clip_on(False)
        corner = offset_copy(right.transData, right.figure, x=-8 * side, y=-7.5, units="points")
        style |= {"color": "black", "linestyle": "", "zorder": 6, "clip_on": False}
        small = {"markersize": 7, "path_effects": WHITE_EDGE, "transform": corner}
        right.plot(column + side / 2, row + 0.5, marker, **style, **small)
        return left.plot(column, means.iloc[row, column], marker, markersize=size, **style)[0]

    def text(cell: tuple[int, int]) -> str:
        row, column = cell
        values = {means.index.name: means.index[row], means.columns.name: means.columns[column]}
        pair, mean = f"α = {values['alpha']:g}, β = {values['beta']:g}", means.iloc[row, column]
        return f"{pair}: failed" if np.isnan(mean) else f"{pair}: {mean:.1f} %"

    nothing = {"color": "none"}
    if winner is None:
        marks = [Line2D([], [], label="no winner: every cell failed", **nothing)]
    else:
        star = mark(winner, -1, "*", 11, markeredgewidth=0.5)
        star.set_label("winner, " + text(winner))
        marks = [star]
    if fixed_cell is None and fixed is not None:
        marks.append(Line2D([], [], label=f"fixed α = {fixed[0]:g}, β = {fixed[1]:g}: not in the grid", **nothing))
    elif fixed_cell is not None:
        ring = mark(fixed_cell, 1, "o", 15, markerfacecolor="none")
        ring.set_label("fixed pair, " + text(fixed_cell))
        marks.append(ring)
    return marks
