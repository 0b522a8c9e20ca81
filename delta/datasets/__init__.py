"""Target data sets: one module a format, named as the format's key in params.yaml.

A module's `PUBLISHED` is what there is to download, and `read(root, PUBLISHED)` the table of what was: path, label, and
split where the publisher chose it. Where parts of the objects are annotated, `read_parts(root)` tells where they are.
To add a data set, write its module and name it as a `format` in params.yaml. (`drawn` and `folder` download nothing.)

A module is imported when it is asked for, so that one needs nothing of the others.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING

from delta.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from delta.downloads import Downloads

FORMATS = tuple(module.name for module in iter_modules(__path__) if module.name != "published")


def split_by_publisher(format: str) -> bool:
    """Whether training and test images are the publisher's choice."""
    published = getattr(_module(format), "PUBLISHED", None)
    return published is not None and published.train is not None


def has_parts(format: str) -> bool:
    """Whether the parts of the objects are annotated."""
    return hasattr(_module(format), "read_parts")


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
    module = _module(format)
    return module.read(root, module.PUBLISHED) if hasattr(module, "PUBLISHED") else module.read(root)


def read_parts(format: str, root: Path) -> pd.DataFrame:
    """Where the parts of a fetched data set's objects are.

    Returns:
        path (as `read` has it), part (its name), x and y (pixels of the file, as it is stored) and visible (bool): a
        row a part of each image, sorted by path, the parts in the annotation's order.

    Raises:
        UserError: the format has no part annotations, or they cannot be read.
    """
    if not has_parts(format):
        raise UserError(f"format {format} has no part annotations: leave it out")
    return _module(format).read_parts(root)


def _module(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")
