"""Target data sets: one module per format, with the name of the format in params.yaml.

A module defines `PUBLISHED`, the files to download and the counts to expect, and `read(root, PUBLISHED)`, the table of
the downloaded images: path, label and, if the publisher defines one, split. If parts of the objects are annotated,
`read_parts(root)` is the table of their locations. `drawn` and `folder` download nothing and have no `PUBLISHED`.
To add a data set, write such a module and set `format` to its name in params.yaml.

Modules are imported on use, so that a stage depends only on the module of its own format.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from delta.data.listing import write_images, write_parts

if TYPE_CHECKING:
    from delta.io.downloads import Downloads

_SHARED = ("published", "fetching", "layouts", "own_files")
FORMATS = tuple(module.name for module in iter_modules(__path__) if module.name not in _SHARED)


def is_split_by_publisher(format: str) -> bool:
    """Whether the publisher defines the training and test splits."""
    published = getattr(_module(format), "PUBLISHED", None)
    return published is not None and published.train is not None


def has_parts(format: str) -> bool:
    """Whether the locations of the objects' parts are annotated."""
    return hasattr(_module(format), "read_parts")


def fetch(
    format: str,
    source: str,
    train_per_class: int | str | None,
    test_per_class: int | str | None,
    seed: int | None,
    downloads: Downloads,
    out: Path,
    duplicates: Literal["keep", "drop"] | None = None,
) -> None:
    """Download, copy or draw a data set's images into the existing folder `out`, in its publisher's layout.

    Args:
        format: a data set's `format` parameter, one of FORMATS.
        source: its `source` parameter; used by the format `folder`.
        train_per_class, test_per_class, seed: the images to draw; used by the format `drawn`. None for images that come
            split; `folder` checks that.
        downloads: how to download; used by published formats.
        duplicates: used by the format `folder`, see `delta.datasets.folder.copy_images`.

    Raises:
        UserError: a problem with the images' source, a download or an archive.
    """
    if format == "drawn":
        if not isinstance(train_per_class, int) or not isinstance(test_per_class, int):
            raise ValueError("the drawn format needs the numbers of training and test images per class")
        _module("drawn").draw(out, train_per_class + test_per_class, seed)
    elif format == "folder":
        _module("folder").copy_images(Path(source), out, duplicates, split_here=train_per_class is not None)
    else:
        _module("fetching").fetch(_module(format).PUBLISHED, downloads, out)


def write_index(format: str, root: Path, out: Path) -> None:
    """Write the tables of a fetched data set into the folder `out`: its images and, if annotated, their parts.

    Args:
        format: as in `fetch`.
        root: the folder that `fetch` filled.

    Raises:
        UserError: the data set in `root` is missing or incomplete.
    """
    module = _module(format)
    write_images(out, module.read(root, module.PUBLISHED) if hasattr(module, "PUBLISHED") else module.read(root))
    if has_parts(format):
        write_parts(out, module.read_parts(root))


def _module(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")
