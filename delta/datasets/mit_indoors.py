"""MIT Indoors 67 (Quattoni, Torralba 2009): `Images/airport_inside/airport_inside_0001.jpg`, lists beside it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from delta.datasets.published import PublishedDataset, image_table, parsing
from delta.io.remote_file import RemoteFile

_LISTS = {"train": "TrainImages.txt", "test": "TestImages.txt"}

PUBLISHED = PublishedDataset(
    files=(
        RemoteFile("http://groups.csail.mit.edu/vision/LabelMe/NewImages/indoorCVPR_09.tar"),
        *(
            RemoteFile(f"http://web.mit.edu/torralba/www/{name}", saved_as=f"indoorCVPR_09_{name}")
            for name in _LISTS.values()
        ),
    ),
    folder="Images",
    classes=67,
    train=5_360,
    test=1_340,
)


def read(root: Path, published: PublishedDataset = PUBLISHED) -> pd.DataFrame:
    """The images in the publisher's two lists: path (relative to `root`), label and split, sorted by path.

    The archive has further images that are in neither list.

    Raises:
        UserError: a list cannot be read, or counts or files differ from the published ones.
    """
    rows = [(f"Images/{file}", file.partition("/")[0], split) for split in _LISTS for file in _files(root, split)]
    return image_table(root, rows, published)


def _files(root: Path, split: str) -> list[str]:
    path = root / _LISTS[split]
    with parsing(path):
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
