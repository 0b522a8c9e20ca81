"""CUB-200-2011 (Wah et al. 2011): `CUB_200_2011/images/001.Black_footed_Albatross/….jpg`, lists and bird parts."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from delta.datasets.layouts import image_paths, read_numbered_list, read_part_lists
from delta.datasets.published import PublishedDataset, image_table, parsing
from delta.io.remote_file import RemoteFile

PUBLISHED = PublishedDataset(
    files=(
        RemoteFile(
            "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
            "md5:97eceeb196236b17998738112f37df78",
        ),
    ),
    folder="CUB_200_2011",
    classes=200,
    train=5_994,
    test=5_794,
)

_FOLDER, _IMAGES = "CUB_200_2011", "CUB_200_2011/images"
_SPLITS = {"1": "train", "0": "test"}


def read(root: Path, published: PublishedDataset = PUBLISHED) -> pd.DataFrame:
    """The images in the publisher's lists: path (relative to `root`), label and split, sorted by path.

    A label is a class's name without its number: `Black_footed_Albatross`.

    Raises:
        UserError: a list cannot be read, or counts or files differ from the published ones.
    """
    folder = root / _FOLDER
    names = ("image_class_labels", "train_test_split", "classes")
    labels, splits, classes = (read_numbered_list(folder / f"{name}.txt") for name in names)
    with parsing(folder):
        rows = [
            (path, classes[labels[image]].partition(".")[2], _SPLITS[splits[image]])
            for image, path in image_paths(root, _FOLDER, _IMAGES).items()
        ]
    return image_table(root, rows, published)


def read_parts(root: Path, published: PublishedDataset = PUBLISHED) -> pd.DataFrame:
    """The locations of every bird's parts, see `delta.datasets.layouts.read_part_lists`."""
    return read_part_lists(root, _FOLDER, _IMAGES, partly=published.labels is not None)
