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

from delta.data.listing import write_images, write_parts

if TYPE_CHECKING:
    from delta.io.downloads import Downloads

_SHARED = ("published", "fetching", "layouts")
FORMATS = tuple(module.name for module in iter_modules(__path__) if module.name not in _SHARED)


def is_split_by_publisher(format: str) -> bool:
    """Whether the publisher chose training and test images."""
    published = getattr(_module(format), "PUBLISHED", None)
    return published is not None and published.train is not None


def has_parts(format: str) -> bool:
    """Whether the parts of the objects are annotated."""
    return hasattr(_module(format), "read_parts")


def fetch(
    format: str,
    source: str,
    train_per_class: int | str | None,
    test_per_class: int | None,
    seed: int | None,
    downloads: Downloads,
    out: Path,
) -> None:
    """Bring a data set's images below the existing folder `out`, laid out as its publisher lays them out.

    Args:
        format: a data set's `format` parameter, one of FORMATS.
        source: its `source` parameter, for the folder format.
        train_per_class, test_per_class, seed: how many images to draw, for the drawn format.
        downloads: where a published format's files come from.

    Raises:
        UserError: something is wrong with the images' source, a download or an archive.
    """
    if format == "drawn":
        _module("drawn").draw(out, train_per_class + test_per_class, seed)
    elif format == "folder":
        _module("folder").copy_images(Path(source), out)
    else:
        _module("fetching").fetch(_module(format).PUBLISHED, downloads, out)


def write_index(format: str, root: Path, out: Path) -> None:
    """Write the tables of a fetched data set into the folder `out`: its images, and their parts where annotated.

    Raises:
        UserError: `root` does not hold the data set, or not all of it.
    """
    module = _module(format)
    write_images(out, module.read(root, module.PUBLISHED) if hasattr(module, "PUBLISHED") else module.read(root))
    if has_parts(format):
        write_parts(out, module.read_parts(root))


def _module(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")
