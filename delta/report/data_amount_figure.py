"""The figure of accuracy against the number of training images a class."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from delta.report.figure_style import RC, looks, wrapped
from delta.report.names import display, label

LINE = 0.15  # inches that a label takes
DODGE = 0.012  # of the axis, between two methods' intervals


@matplotlib.rc_context(RC)
def data_amount(rows: pd.DataFrame) -> Figure:
    """Top-1 (%) of every method, over the number of training images a class on a logarithmic axis.

    Each line is labelled at its right end. Intervals stand beside each other, a little left and right of their number.

    Args:
        rows: of one backbone, see `delta.report.data_amount.accuracies`.
    """
    styles = looks(rows["method"].unique())
    figure = Figure(figsize=(6.6, 4.2))
    axes = figure.subplots()
    amounts = sorted(rows["train_per_class"].unique())
    span, ends = np.log(amounts[-1] / amounts[0]), {}  # where each line ends
    for place, (method, look) in enumerate(styles.items()):
        line = rows[rows["method"] == method].sort_values("train_per_class")
        x = line["train_per_class"] * np.exp(DODGE * span * (place - (len(styles) - 1) / 2))
        axes.plot(x, line["top1"], color=look.colour, marker=look.marker, label=label(method))
        axes.vlines(x, line["low"], line["high"], color=look.colour, linewidth=1)
        ends[method] = (x.iloc[-1], line["top1"].iloc[-1])
    axes.set_xscale("log")
    axes.set_xticks(amounts, [f"{amount:.3g}" for amount in amounts])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="training images a class", ylabel="top-1 on the test images (%)")
    axes.set_title(wrapped(display(str(rows["backbone"].iloc[0])), 64))
    low, high = axes.get_ylim()
    heights = _apart({method: y for method, (_, y) in ends.items()}, (high - low) * LINE / figure.get_figheight() * 1.3)
    for method, height in heights.items():
        axes.annotate(
            label(method),
            ends[method],
            (1.03, height),
            "data",
            axes.get_yaxis_transform(),
            color=styles[method].colour,
            va="center",
            annotation_clip=False,
            arrowprops={
                "relpos": (0, 0.5),
                "arrowstyle": "-",
                "color": styles[method].colour,
                "linewidth": 0.6,
                "shrinkA": 1,
                "shrinkB": 4,
            },
        )
    return figure


def _apart(heights: dict[str, float], least: float) -> dict[str, float]:
    """The heights moved so that neighbours are at least so far apart, around their common mean."""
    names = sorted(heights, key=heights.__getitem__)
    moved: list[float] = []
    for name in names:
        moved.append(max(heights[name], moved[-1] + least) if moved else heights[name])
    shift = float(np.mean(moved) - np.mean(list(heights.values()))) if moved else 0.0
    return {name: height - shift for name, height in zip(names, moved, strict=True)}
