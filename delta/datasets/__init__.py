"""Target data sets: one module a format, each giving the same table of path and label.

A format's module is imported when it is asked for, so that one needs nothing of the others.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from delta.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from delta.downloads import Downloads

SPLIT_BY_PUBLISHER = ("stanford_dogs", "mit_indoors", "cub_200_2011", "food_101")
FORMATS = ("drawn", "folder", "caltech256", *SPLIT_BY_PUBLISHER)
WITH_PARTS = ("drawn", "cub_200_2011")


def fetch(format: str, source: str, images_per_class: int | None, seed: int, downloads: Downloads, out: Path) -> None:
    """Bring a data set's images below the existing folder `out`, laid out as its publisher lays them out.

    Args:
        format: a data set's `format` parameter, one of FORMATS.
        source: its `source` parameter, for the folder format.
        images_per_class, seed: how much to draw, for the drawn format.
        downloads: where a published format's files come from.

    Raises:
        UserError: something is wrong with the images' source, a download or an archive.
    """
    if format == "drawn":
        _module("drawn").draw(out, images_per_class, seed)
    elif format == "folder":
        _module("folder").copy_images(Path(source), out)
    else:
        _module("published").fetch(_module(format).PUBLISHED, downloads, out)


def read(format: str, root: Path) -> pd.DataFrame:
    """The table of a fetched data set, sorted by path.

    Returns:
        path (relative to `root`, posix), label and, where the publisher chose it, split (train or test).

    Raises:
        UserError: `root` does not hold the data set, or not all of it.
    """
    if format == "folder":
        return _module("folder").read(root)
    if format == "drawn":
        caltech256 = _module("caltech256")
        return caltech256.read(root, replace(caltech256.PUBLISHED, classes=len(_module("drawn").CATEGORIES)))
    return _module(format).read(root, _module(format).PUBLISHED)


def read_parts(format: str, root: Path) -> pd.DataFrame:
    """Where the parts of a fetched data set's objects are.

    Returns:
        path (as `read` has it), part (its name), x and y (pixels of the file, as it is stored) and visible (bool): a
        row a part of each image, sorted by path, the parts in the annotation's order.

    Raises:
        UserError: the format has no part annotations, or they cannot be read.
    """
    if format not in WITH_PARTS:
        raise UserError(f"format {format} has no part annotations, only {' and '.join(WITH_PARTS)} have: leave it out")
    read_parts = _module("cub_200_2011").read_parts
    return read_parts(root, "", "256_ObjectCategories") if format == "drawn" else read_parts(root)


def _module(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")
