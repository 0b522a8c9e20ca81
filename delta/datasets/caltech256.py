"""Caltech 256 (Griffin, Holub, Perona 2007): `256_ObjectCategories/001.ak47/001_0001.jpg`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from delta.datasets.layouts import read_categories
from delta.datasets.published import PublishedDataset
from delta.io.remote_file import RemoteFile

PUBLISHED = PublishedDataset(
    files=(
        RemoteFile(
            "https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar",
            "md5:67b4f42ca05d46448c6bb8ecd2220f6d",
        ),
    ),
    folder="256_ObjectCategories",
    classes=256,
)


def read(root: Path, published: PublishedDataset = PUBLISHED) -> pd.DataFrame:
    """Every image of every category, see `delta.datasets.layouts.read_categories`."""
    return read_categories(root, published.classes, published.labels)
