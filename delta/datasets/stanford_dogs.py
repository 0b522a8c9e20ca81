"""Stanford Dogs 120 (Khosla et al. 2011): `Images/n02085620-Chihuahua/n02085620_10074.jpg`, lists for MATLAB 5."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from scipy.io import loadmat

from delta.datasets.published import PublishedDataset, image_table, not_as_published, parsing
from delta.io.remote_file import RemoteFile

_SITE = "http://vision.stanford.edu/aditya86/ImageNetDogs"

PUBLISHED = PublishedDataset(
    files=(
        RemoteFile(f"{_SITE}/images.tar", saved_as="stanford_dogs_images.tar"),
        RemoteFile(f"{_SITE}/lists.tar", saved_as="stanford_dogs_lists.tar"),
    ),
    folder="Images",
    classes=120,
    train=12_000,
    test=8_580,
)


def read(root: Path, published: PublishedDataset = PUBLISHED) -> pd.DataFrame:
    """The images in the publisher's two lists: path (relative to `root`), label and split, sorted by path.

    A label is a folder's name without its WordNet ID: `Chihuahua`.

    Raises:
        UserError: a list cannot be read, or counts, class numbers or files differ from the published ones.
    """
    listed = [(split, *entry) for split in ("train", "test") for entry in _entries(root / f"{split}_list.mat")]
    rows = ((f"Images/{file}", _folder(file).partition("-")[2], split) for split, file, _ in listed)
    table = image_table(root, rows, published)
    if published.labels is not None:
        return table
    numbers = sorted(number for number, _ in {(number, _folder(file)) for _, file, number in listed})
    if numbers != list(range(1, published.classes + 1)):
        raise not_as_published(root, f"the class numbers in its lists are not 1 to {published.classes}, one per class")
    return table


def _entries(path: Path) -> list[tuple[str, int]]:
    """The path (relative to `Images`) and the class number (from 1) of each image in a list."""
    with parsing(path), path.open("rb") as file:
        lists = loadmat(file, variable_names=["file_list", "labels"])
        files = [str(cell.item()) for cell in lists["file_list"].flat]  # a MATLAB cell array: arrays of one string each
        numbers = [int(number) for number in lists["labels"].ravel().tolist()]
        return list(zip(files, numbers, strict=True))


def _folder(file: str) -> str:
    return file.partition("/")[0]
