"""Target data sets: one module per format, with the name of the format in params.yaml.

A module defines `PUBLISHED`, the files to download and the counts to expect, and `read(root, PUBLISHED)`, the table of
the downloaded images: path, label and, if the publisher defines one, split. If parts of the objects are annotated,
`read_parts(root, PUBLISHED)` is the table of their locations. `drawn` and `folder` download nothing and have no
`PUBLISHED`. A published data set that is unpacked already is used where it lies.
To add a data set, write such a module and set `format` to its name in params.yaml.

Modules are imported on use, so that a stage depends only on the module of its own format.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from delta.data.listing import write_images, write_parts

if TYPE_CHECKING:
    from delta.datasets.published import PublishedDataset
    from delta.io.downloads import Downloads

_SHARED = ("published", "fetching", "in_place", "layouts", "own_files")
FORMATS = tuple(module.name for module in iter_modules(__path__) if module.name not in _SHARED)


def is_split_by_publisher(format: str) -> bool:
    """Whether the publisher defines the training and test splits."""
    published = getattr(_module(format), "PUBLISHED", None)
    return published is not None and published.train is not None


def has_parts(format: str) -> bool:
    """Whether the locations of the objects' parts are annotated."""
    return hasattr(_module(format), "read_parts")


def is_in_place(format: str, source: str) -> bool:
    """Whether `source` is a published data set that is unpacked already, and not the module that downloads it."""
    return hasattr(_module(format), "PUBLISHED") and not source.endswith(".py")


def image_root(format: str, source: str, fetched: Path) -> Path:
    """The folder that the images' paths are relative to.

    Args:
        format, source: a data set's parameters, as in `fetch`.
        fetched: the folder that `fetch` fills.

    Raises:
        UserError: a data set that is used in place is not there.
    """
    if not is_in_place(format, source):
        return fetched
    return _module("in_place").data_root(Path(source), _module(format).PUBLISHED)


def fetch(
    format: str,
    source: str,
    train_per_class: int | str | None,
    test_per_class: int | str | None,
    seed: int | None,
    downloads: Downloads,
    out: Path,
    duplicates: Literal["keep", "drop"] | None = None,
    classes: list[str] | None = None,
) -> None:
    """Download, copy or draw a data set's images into the existing folder `out`, in its publisher's layout.

    Of a published data set that is used in place, only the checksums of the images are written.

    Args:
        format: a data set's `format` parameter, one of FORMATS.
        source: its `source` parameter; used by the format `folder`, and for data sets that are used in place.
        train_per_class, test_per_class, seed: the images to draw; used by the format `drawn`. None for images that come
            split; `folder` checks that.
        downloads: how to download; used by published formats.
        duplicates: used by the format `folder`, see `delta.datasets.folder.copy_images`.
        classes: the labels that a data set that is used in place must have; None for all that are published.

    Raises:
        UserError: a problem with the images' source, a download or an archive.
    """
    if format == "drawn":
        if not isinstance(train_per_class, int) or not isinstance(test_per_class, int):
            raise ValueError("the drawn format needs the numbers of training and test images per class")
        _module("drawn").draw(out, train_per_class + test_per_class, seed)
    elif format == "folder":
        _module("folder").copy_images(Path(source), out, duplicates, split_here=train_per_class is not None)
    elif is_in_place(format, source):
        root = image_root(format, source, out)
        images = _module(format).read(root, *_facts(format, classes))
        _module("in_place").write_checksums(root, images["path"], out)
    else:
        _module("fetching").fetch(_module(format).PUBLISHED, downloads, out)


def write_index(format: str, root: Path, out: Path, classes: list[str] | None = None) -> None:
    """Write the tables of a fetched data set into the folder `out`: its images and, if annotated, their parts.

    Args:
        format, classes: as in `fetch`.
        root: see `image_root`.

    Raises:
        UserError: the data set in `root` is missing or incomplete.
    """
    module, facts = _module(format), _facts(format, classes)
    write_images(out, module.read(root, *facts))
    if has_parts(format):
        write_parts(out, module.read_parts(root, *facts))


def _facts(format: str, classes: list[str] | None) -> list[PublishedDataset]:
    """What the publisher provides, if there is one; of these classes only."""
    if (published := getattr(_module(format), "PUBLISHED", None)) is None:
        return []
    return [replace(published, labels=tuple(classes)) if classes else published]


def _module(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")
