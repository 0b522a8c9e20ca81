"""Activation maps drawn: Figure 1, Figures 6 and 7, and a figure for each class.

By default each row begins with its photograph, and the maps lie over it. Without photographs the maps are drawn alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from delta.analysis.map_files import NETWORK, ActivationMaps, evenly_spaced
from delta.report.figure_style import RC, pair_title, wrapped
from delta.report.fonts import drawable, font_families
from delta.report.names import network_label

EXAMPLES = 3  # images per filter in Figure 6
IMAGE_OPACITY = 0.3  # of the grey image below its map
COLOURS = matplotlib.colormaps["inferno"]
SUFFIXES = {True: ".jpg", False: ".png"}  # of a figure with photographs, and of maps alone

# The layout, in inches.
_TILE, _GAP, _GROUP_GAP, _LEFT, _RIGHT, _HEADER, _LINE, _FOOTER = 1.0, 0.04, 0.12, 1.0, 0.1, 0.35, 0.2, 0.58


class _Row(NamedTuple):
    """A row of tiles: the numbers of the image and of the map, the text to their left."""

    image: int
    map: int
    name: str
    starts_group: bool = False  # has a gap above it


def write_map_pictures(out: Path, shown: ActivationMaps, dataset: str, backbone: str, photographs: bool = True) -> None:
    """Write the pictures of one data set and backbone into the folder `out`.

    `figure1-<data set>-<backbone>`, `figure6-…` and, in the folder `classes`, one for each image, with the name
    `class_picture`; as JPEG, or without photographs as PNG.
    """
    pair = f"{dataset}-{backbone}{SUFFIXES[photographs]}"
    _save(figure1(shown, dataset, backbone, photographs), out / f"figure1-{pair}")
    _save(figure6(shown, dataset, backbone, photographs), out / f"figure6-{pair}")
    (out / "classes").mkdir(exist_ok=True)
    for image in range(len(shown.images)):
        name = class_picture(dataset, backbone, image, photographs)
        _save(class_figure(shown, image, dataset, backbone, photographs), out / "classes" / name)


def class_picture(dataset: str, backbone: str, image: int, photographs: bool = True) -> str:
    """The file name of the figure of one image."""
    return f"{dataset}-{backbone}-class_{image:03d}{SUFFIXES[photographs]}"


def figure1(shown: ActivationMaps, dataset: str, backbone: str, photographs: bool = True) -> Figure:
    """Figure 1: a row for each image, with every network's map of it."""
    rows = [_Row(image, 0, wrapped(drawable(name), 16)) for image, name in enumerate(shown.images["label"])]
    return _figure(shown, rows, pair_title(dataset, backbone), photographs)


def figure6(shown: ActivationMaps, dataset: str, backbone: str, photographs: bool = True) -> Figure:
    """Figures 6 and 7: rows of a few images for each filter, with every network's map of them."""
    images = evenly_spaced(len(shown.images), EXAMPLES)
    rows = [
        _Row(image, number, _map_name(name) if place == len(images) // 2 else "", place == 0)
        for number, name in enumerate(shown.names)
        if name != NETWORK
        for place, image in enumerate(images)
    ]
    title = f"{pair_title(dataset, backbone)}\nfilters of {shown.filters['layer'].iloc[0]}"
    return _figure(shown, rows, title, photographs)


def class_figure(shown: ActivationMaps, image: int, dataset: str, backbone: str, photographs: bool = True) -> Figure:
    """One image: a row with every network's map over all filters, and a row for each single filter."""
    rows = [_Row(image, number, _map_name(name), number == 1) for number, name in enumerate(shown.names)]
    name = wrapped(drawable(shown.images["label"][image]), 64)
    return _figure(shown, rows, f"{name}\n{pair_title(dataset, backbone)}", photographs)


def _map_name(name: str) -> str:
    return "all filters" if name == NETWORK else f"filter {name}"


@matplotlib.rc_context(RC)
def _figure(shown: ActivationMaps, rows: list[_Row], title: str, photographs: bool) -> Figure:
    """A figure of tiles: in each row an image, then every method's map drawn over it; or the maps alone."""
    columns = photographs + len(shown.maps)
    matplotlib.rcParams["font.family"] = font_families([title, *(row.name for row in rows)])  # within this rc_context
    width = _LEFT + columns * (_TILE + _GAP) - _GAP + _RIGHT
    top = _HEADER + _LINE * (1 + title.count("\n"))
    height = top + len(rows) * (_TILE + _GAP) + _GROUP_GAP * sum(row.starts_group for row in rows[1:]) + _FOOTER
    figure = Figure(figsize=(width, height), layout="none")
    middle = (_LEFT + width - _RIGHT) / 2 / width
    figure.text(
        middle, 1 - 0.1 / height, title, ha="center", va="top", fontsize=RC["figure.titlesize"], linespacing=1.4
    )
    lower = height - top
    headings = [*(["image"] if photographs else []), *map(network_label, shown.maps)]
    for number, row in enumerate(rows):
        lower -= _TILE + (_GROUP_GAP if number and row.starts_group else 0)
        middle = (lower + _TILE / 2) / height
        figure.text((_LEFT - 0.08) / width, middle, row.name, ha="right", va="center")
        maps = [each[row.image, row.map] for each in shown.maps.values()]
        pixels = shown.pixels[row.image] if photographs else None
        tiles = [over(pixels, each) for each in maps]
        for column, tile in enumerate(tiles if pixels is None else [pixels, *tiles]):
            left = _LEFT + column * (_TILE + _GAP)
            axes = figure.add_axes((left / width, lower / height, _TILE / width, _TILE / height))
            axes.set_axis_off()
            axes.imshow(tile)
            if number == 0:
                axes.set_title(headings[column], pad=4)
            if column >= photographs and not np.ptp(maps[column - photographs]):
                axes.text(0.5, 0.5, "no contrast", color="#dddddd", ha="center", va="center", transform=axes.transAxes)
        lower -= _GAP
    scale = figure.add_axes(((_LEFT + _TILE + _GAP) / width, 0.42 / height, 3 * _TILE / width, 0.1 / height))
    _scale(scale, photographs)
    return figure


def over(pixels: np.ndarray | None, values: np.ndarray) -> np.ndarray:
    """A map in colours over the image in grey.

    Args:
        pixels: the image, uint8 [h, w, 3]; None for the colours alone.
        values: the map, [h, w] in [0, 1].

    Returns:
        float [h, w, 3] in [0, 1].
    """
    colours = COLOURS(values)[..., :3]
    if pixels is None:
        return colours
    grey = np.asarray(Image.fromarray(pixels).convert("L"))[..., None] / 255
    return (1 - IMAGE_OPACITY) * colours + IMAGE_OPACITY * grey


def _scale(axes: matplotlib.axes.Axes, photographs: bool) -> None:
    """Draw the colour scale, as over an image of middle grey if the maps lie over images."""
    values = np.linspace(0, 1, 256)
    grey = np.full((1, 256, 3), 128, np.uint8) if photographs else None
    axes.imshow(over(grey, values[None]), aspect="auto", extent=(0, 1, 0, 1))
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set(yticks=[], xlabel="activation, from each map's minimum to its maximum")
    axes.tick_params(length=2, pad=2)
    axes.grid(visible=False)


def _save(figure: Figure, path: Path) -> None:
    options: dict[str, Any] = (
        {"pil_kwargs": {"quality": 88}} if path.suffix == ".jpg" else {"metadata": {"Software": None}}
    )
    figure.savefig(path, dpi=150, **options)
