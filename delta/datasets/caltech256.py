"""Caltech 256 (Griffin, Holub, Perona 2007): `256_ObjectCategories/001.ak47/001_0001.jpg`."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from delta.errors import UserError

_IMAGE = re.compile(r"(?P<number>\d{3})_\d{4}\.jpg")


def read(root: Path) -> pd.DataFrame:
    """Every image of every category, as a table of path (relative to `root`) and label, sorted by path.

    `257.clutter` is no category. Whatever is not named as an image of its folder is a stray and skipped: the
    published archive holds the folder `056.dog/greg` and the file `198.spider/RENAME2`.

    Raises:
        UserError: there are no category folders below `root`.
    """
    categories = root / "256_ObjectCategories"
    rows = [
        (path.relative_to(root).as_posix(), folder.name.partition(".")[2])
        for folder in sorted(categories.glob("[0-9][0-9][0-9].*"))
        if folder.name != "257.clutter"
        for path in sorted(folder.iterdir())
        if (match := _IMAGE.fullmatch(path.name)) and match["number"] == folder.name[:3]
    ]
    if not rows:
        raise UserError(f"{categories}: no category folders such as 001.ak47 with images in them")
    return pd.DataFrame(rows, columns=["path", "label"])
