"""Stanford Dogs 120 (Khosla et al. 2011): `Images/n02085620-Chihuahua/n02085620_10074.jpg`, lists for MATLAB 5."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from scipy.io import loadmat

from delta.datasets.published import Published, checked, not_as_published, reading
from delta.io.remote_file import RemoteFile

_SITE = "http://vision.stanford.edu/aditya86/ImageNetDogs"

PUBLISHED = Published(
    files=(
        RemoteFile(f"{_SITE}/images.tar", saved_as="stanford_dogs_images.tar"),
        RemoteFile(f"{_SITE}/lists.tar", saved_as="stanford_dogs_lists.tar"),
    ),
    classes=120,
    train=12_000,
    test=8_580,
)


def read(root: Path, published: Published = PUBLISHED) -> pd.DataFrame:
    """The images of the publisher's two lists: path (relative to `root`), label and split, sorted by path.

    A label is what follows the folder's WordNet number: `Chihuahua`.

    Raises:
        UserError: a list cannot be read, or its counts, class numbers or files are not as published.
    """
    listed = [(split, *entry) for split in ("train", "test") for entry in _entries(root / f"{split}_list.mat")]
    rows = ((f"Images/{file}", _folder(file).partition("-")[2], split) for split, file, _ in listed)
    table = checked(root, rows, published)
    numbers = sorted(number for number, _ in {(number, _folder(file)) for _, file, number in listed})
    if numbers != list(range(1, published.classes + 1)):
        raise not_as_published(root, f"its lists' labels are not one number, from 1 to {published.classes}, a class")
    return table


def _entries(path: Path) -> list[tuple[str, int]]:
    """Each image's path below `Images` and its class's number, from 1."""
    with reading(path), path.open("rb") as file:
        lists = loadmat(file, variable_names=["file_list", "labels"])
        files = [str(cell.item()) for cell in lists["file_list"].flat]  # a cell array: one array of one string each
        numbers = [int(number) for number in lists["labels"].ravel().tolist()]
        return list(zip(files, numbers, strict=True))


def _folder(file: str) -> str:
    return file.partition("/")[0]
