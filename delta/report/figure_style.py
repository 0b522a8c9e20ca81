"""The style of the report's figures: Matplotlib settings, each method's colour and marker, wrapped titles."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from textwrap import wrap
from typing import NamedTuple

from delta.report.fonts import MAIN
from delta.report.names import display

RC = {
    "font.family": MAIN,
    "text.parse_math": False,  # a dollar sign in the name of a class is one
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#444444",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "legend.frameon": False,
    "figure.titlesize": 10,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.07,
    "figure.constrained_layout.w_pad": 0.07,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    # Text as paths, so that no machine needs the font.
    "svg.fonttype": "path",
    "svg.hashsalt": "delta",
}


class Look(NamedTuple):
    """A method's colour and marker; luminance and marker both differ, so that they can be told apart in grey."""

    colour: str
    marker: str


LOOKS = {
    "probe": Look("#a8a8a8", "*"),
    "l2_fe": Look("#686868", "s"),
    "l2": Look("#3d9cd8", "v"),
    "l2_sp": Look("#12326b", "o"),
    "l2_sp_att": Look("#6b2a8a", "P"),
    "delta_wo_att": Look("#13805c", "^"),
    "delta": Look("#d05f08", "D"),
}
# Four colours and five markers, in turn, are twenty looks.
SPARE_COLOURS, SPARE_MARKERS = ("#a3283f", "#6e5a1e", "#2b2b2b", "#b58a00"), "Xhp<>"


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """Each method's colour and marker; methods that are not the paper's take the spare ones in turn."""
    spare = map(Look, cycle(SPARE_COLOURS), cycle(SPARE_MARKERS))
    return {method: LOOKS[method] if method in LOOKS else next(spare) for method in methods}


def wrapped(text: str, width: int) -> str:
    """The text in lines of at most `width` characters, broken at spaces, hyphens or underscores if possible."""
    return "\n".join(line.replace("_ ", "_") for line in wrap(text.replace("_", "_ "), width))


def pair_title(dataset: str, backbone: str, *further: str) -> str:
    """The names of a data set, a backbone and what else there is, in lines short enough for a figure's title."""
    return wrapped(", ".join([display(dataset), display(backbone), *further]), 64)
