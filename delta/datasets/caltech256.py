"""Caltech 256 (Griffin, Holub, Perona 2007): `256_ObjectCategories/001.ak47/001_0001.jpg`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from delta.datasets.published import Published, few, not_as_published
from delta.downloads import RemoteFile

PUBLISHED = Published(
    files=(
        RemoteFile(
            "https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar",
            "md5:67b4f42ca05d46448c6bb8ecd2220f6d",
        ),
    ),
    classes=256,
)


def read(root: Path, published: Published = PUBLISHED) -> pd.DataFrame:
    """Every image of every category, as a table of path (relative to `root`) and label, sorted by path.

    `257.clutter` is no category. Whatever is not named as an image of its folder is a stray and skipped: the
    published archive holds the folder `056.dog/greg` and the file `198.spider/RENAME2`.

    Raises:
        UserError: there are more or fewer categories than published; the missing numbers are named.
    """
    categories = root / "256_ObjectCategories"
    rows = [
        (path.relative_to(root).as_posix(), folder.name.partition(".")[2])
        for folder in categories.glob("[0-9][0-9][0-9].*")
        if folder.name != "257.clutter"
        for path in folder.glob(f"{folder.name[:3]}_[0-9][0-9][0-9][0-9].jpg")
    ]
    table = pd.DataFrame(rows, columns=["path", "label"]).sort_values("path", ignore_index=True)
    if (held := table["label"].nunique()) != published.classes:
        numbers = {Path(path).name[:3] for path in table["path"]}
        missing = [number for place in range(published.classes) if (number := f"{place + 1:03d}") not in numbers]
        why = f"{held} categories with images such as 001.ak47/001_0001.jpg, published are {published.classes}"
        raise not_as_published(categories, f"{why}: {few(missing) or 'none'} missing")
    return table
