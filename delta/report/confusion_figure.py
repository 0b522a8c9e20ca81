"""The confusion matrices of all methods, or of a recommended network, as one figure."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.textpath import TextPath

from delta.report.confusion import confusion_matrix, shown_classes
from delta.report.figure_style import RC, pair_title
from delta.report.fonts import drawable, font_families
from delta.report.predictions import Predictions
from delta.report.recommended import Recommended

NUMBERED = 12  # classes up to which the cells have their numbers
LONGEST_NAME = 18  # letters
FONT_SIZE = 7
# The square root of a share: a few percent are still seen, and in grey.
SHADES = PowerNorm(0.5, 0, 100)
TICKS = [0, 1, 5, 20, 50, 100]

# The layout, in inches.
_ROW, _LEAST_SIDE, _WIDE_SIDE, _GAP, _TITLE, _AXIS, _MARGIN = 0.13, 1.9, 2.7, 0.2, 0.35, 0.25, 0.15
_LEAST_WIDTH, _LINE, _SCALE = 5.6, 0.2, 0.6


def confusion(predictions: Predictions) -> Figure:
    """A matrix for each method: rows are the images' own classes, columns what its networks say, over all seeds.

    Grey is the share of a class's test images; see `delta.report.confusion.confusion_matrix`.
    """
    panels = {}
    for method, label in predictions.methods.items():
        right = 100 * predictions.right[predictions.of(method)].mean()
        panels[f"{label}: {right:.1f} % right"] = confusion_matrix(predictions, method)
    return _figure(pair_title(predictions.dataset, predictions.backbone), panels)


def best_confusion(best: Recommended) -> Figure:
    """The matrices of a recommended network on test images and, cross-validated, on training images."""
    (method,), panels = best.tested.methods, {}
    shown = shown_classes(best.tested, best.cross_validated)
    for what, predictions in (("test images", best.tested), ("cross-validated", best.cross_validated)):
        panels[f"{what}: {100 * predictions.right.mean():.1f} % right"] = confusion_matrix(predictions, method, shown)
    return _figure(pair_title(best.dataset, best.tested.backbone, best.tested.methods[method]), panels)


@matplotlib.rc_context(RC)
def _figure(title: str, matrices: Mapping[str, pd.DataFrame]) -> Figure:
    """A panel for each matrix, by its title; all are of the same classes."""
    names = [_short(name) for name in next(iter(matrices.values())).columns]
    matplotlib.rcParams["font.family"] = font_families(names)  # until the end of this function's rc_context
    side = max(_LEAST_SIDE, _ROW * len(names))
    columns = min(2 if side > _WIDE_SIDE else 3, len(matrices))
    rows = -(-len(matrices) // columns)
    longest = max(TextPath((0, 0), name, size=FONT_SIZE).get_extents().width for name in names) / 72 + 0.1
    header = _MARGIN + _LINE * (1 + title.count("\n"))
    panels = columns * (side + _GAP) - _GAP
    width = max(_LEAST_WIDTH, _AXIS + longest + panels + _MARGIN)
    height = header + _SCALE + rows * (_TITLE + side) + longest + _AXIS
    left = (width + _AXIS + longest - panels - _MARGIN) / 2
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("none")
    for number, (heading, matrix) in enumerate(matrices.items()):
        row, column = divmod(number, columns)
        lower = height - header - _SCALE - (row + 1) * (_TITLE + side)
        axes = figure.add_axes(((left + column * (side + _GAP)) / width, lower / height, side / width, side / height))
        image = _panel(axes, matrix, names)
        axes.set_title(heading)
        if column:
            axes.set_yticklabels([])
        if number + columns < len(matrices):
            axes.set_xticklabels([])
    figure.suptitle(title, y=1 - 0.08 / height, va="top", linespacing=1.4)
    figure.text((left + panels / 2) / width, 0.1 / height, "what the networks say", ha="center", va="bottom")
    beside = (left - longest - _AXIS + 0.1) / width
    figure.text(beside, 0.5, "the image's label", ha="left", va="center", rotation=90)
    scale = figure.add_axes((0.5 - 1.3 / width, 1 - (header + 0.15) / height, 2.6 / width, 0.1 / height))
    figure.colorbar(image, cax=scale, orientation="horizontal", ticks=TICKS)
    scale.tick_params(labelsize=FONT_SIZE, length=2, pad=2)
    scale.set_xlabel("share of a class's images (%)", labelpad=2)
    return figure


def _panel(axes: Axes, matrix: pd.DataFrame, names: list[str]) -> AxesImage:
    image = axes.imshow(matrix.to_numpy(), cmap="Greys", norm=SHADES, interpolation="none", aspect="auto")
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=FONT_SIZE)
    axes.set_yticks(range(len(matrix)), names[: len(matrix)], fontsize=FONT_SIZE)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(True)
    if len(names) <= NUMBERED:
        for (row, column), share in np.ndenumerate(matrix.to_numpy()):
            if share:
                colour = "white" if SHADES(share) > 0.5 else "black"
                text = f"{share:.0f}" if share >= 1 else "<1"
                axes.text(column, row, text, ha="center", va="center", fontsize=FONT_SIZE, color=colour)
    return image


def _short(name: str) -> str:
    name = drawable(name)
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
