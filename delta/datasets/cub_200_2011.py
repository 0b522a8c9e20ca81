"""CUB-200-2011 (Wah et al. 2011): `CUB_200_2011/images/001.Black_footed_Albatross/….jpg`, lists and bird parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from delta.datasets.published import Published, checked, reading
from delta.downloads import RemoteFile

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

_FOLDER = "CUB_200_2011"
_SPLITS = {"1": "train", "0": "test"}


def read(root: Path, published: Published = PUBLISHED) -> pd.DataFrame:
    """The images of the publisher's lists: path (relative to `root`), label and split, sorted by path.

    A label is what follows the class's number: `Black_footed_Albatross`.

    Raises:
        UserError: a list cannot be read, or its counts or files are not as published.
    """
    folder = root / _FOLDER
    names = ("image_class_labels", "train_test_split", "classes")
    labels, splits, classes = (_by_number(folder / f"{name}.txt") for name in names)
    with reading(folder):
        rows = [
            (path, classes[labels[image]].partition(".")[2], _SPLITS[splits[image]])
            for image, path in _paths(root).items()
        ]
    return checked(root, rows, published)


def read_parts(root: Path, folder: str = _FOLDER, images: str = f"{_FOLDER}/images") -> pd.DataFrame:
    """Where the parts of every bird are.

    Args:
        root: the data set's folder.
        folder, images: where below it the lists and the images lie, for another data set in this layout.

    Returns:
        path (as `read` has it), part (its name), x and y (pixels of the file, as it is stored; 0 where the part is
        hidden) and visible (bool): a row a part of each image, sorted by path, the parts in the publisher's order.

    Raises:
        UserError: a list cannot be read.
    """
    lists = root / folder / "parts"
    paths, parts = _paths(root, folder, images), _by_number(lists / "parts.txt")
    with reading(lists / "part_locs.txt"):
        columns = {"image": str, "part": str, "x": float, "y": float, "visible": int}
        table = pd.read_csv(lists / "part_locs.txt", sep=" ", names=list(columns), dtype=columns)
        if not np.isfinite(table[["x", "y"]]).all(axis=None):
            raise ValueError("a part lies nowhere")
        table.insert(0, "path", [paths[image] for image in table.pop("image")])
        table = table.assign(part=[parts[part] for part in table["part"]], visible=table["visible"] == 1)
    return table.sort_values("path", kind="stable", ignore_index=True)


def _paths(root: Path, folder: str = _FOLDER, images: str = f"{_FOLDER}/images") -> dict[str, str]:
    return {image: f"{images}/{path}" for image, path in _by_number(root / folder / "images.txt").items()}


def _by_number(path: Path) -> dict[str, str]:
    """What a list of `<number> <text>` lines has for each number."""
    with reading(path):
        return dict(line.split(" ", 1) for line in path.read_text(encoding="utf-8").splitlines())
