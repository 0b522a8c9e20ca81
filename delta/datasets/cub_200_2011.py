"""CUB-200-2011 (Wah et al. 2011): `CUB_200_2011/images/001.Black_footed_Albatross/….jpg`, lists and bird parts."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from delta.datasets.layouts import by_number, image_paths, read_part_lists
from delta.datasets.published import Published, checked, reading
from delta.io.remote_file import RemoteFile

PUBLISHED = Published(
    files=(
        RemoteFile(
            "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
            "md5:97eceeb196236b17998738112f37df78",
        ),
    ),
    classes=200,
    train=5_994,
    test=5_794,
)

_FOLDER, _IMAGES = "CUB_200_2011", "CUB_200_2011/images"
_SPLITS = {"1": "train", "0": "test"}


def read(root: Path, published: Published = PUBLISHED) -> pd.DataFrame:
    """The images of the publisher's lists: path (relative to `root`), label and split, sorted by path.

    A label is what follows the class's number: `Black_footed_Albatross`.

    Raises:
        UserError: a list cannot be read, or its counts or files are not as published.
    """
    folder = root / _FOLDER
    names = ("image_class_labels", "train_test_split", "classes")
    labels, splits, classes = (by_number(folder / f"{name}.txt") for name in names)
    with reading(folder):
        rows = [
            (path, classes[labels[image]].partition(".")[2], _SPLITS[splits[image]])
            for image, path in image_paths(root, _FOLDER, _IMAGES).items()
        ]
    return checked(root, rows, published)


def read_parts(root: Path) -> pd.DataFrame:
    """Where the parts of every bird are, see `delta.datasets.layouts.read_part_lists`."""
    return read_part_lists(root, _FOLDER, _IMAGES)
