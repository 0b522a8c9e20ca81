"""Food-101 (Bossard, Guillaumin, Van Gool 2014): `food-101/images/apple_pie/1005649.jpg`, lists in `food-101/meta`."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from delta.datasets.published import PublishedDataset, image_table, parsing
from delta.io.remote_file import RemoteFile

PUBLISHED = PublishedDataset(
    files=(
        RemoteFile(
            "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
            "md5:85eeb15f3717b99a5da872d97d918f87",
        ),
    ),
    folder="food-101",
    classes=101,
    train=75_750,
    test=25_250,
)


def read(root: Path, published: PublishedDataset = PUBLISHED) -> pd.DataFrame:
    """The images in the publisher's two lists: path (relative to `root`), label and split, sorted by path.

    Raises:
        UserError: a list cannot be read, or counts or files differ from the published ones.
    """
    return image_table(root, [row for split in ("train", "test") for row in _rows(root, split)], published)


def _rows(root: Path, split: str) -> list[tuple[str, str, str]]:
    path = root / "food-101" / "meta" / f"{split}.json"
    with parsing(path):
        lists = json.loads(path.read_text(encoding="utf-8"))
        return [(f"food-101/images/{image}.jpg", label, split) for label, images in lists.items() for image in images]
