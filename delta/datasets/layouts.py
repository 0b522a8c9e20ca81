"""Layouts on disk that several data sets share: Caltech 256's category folders and CUB-200-2011's lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from delta.datasets.published import not_as_published, only_labels, parsing
from delta.io.errors import abbreviate


def read_categories(root: Path, classes: int, labels: Sequence[str] | None = None) -> pd.DataFrame:
    """List every image in Caltech 256's layout, `256_ObjectCategories/001.ak47/001_0001.jpg`.

    `257.clutter` is not a category and is skipped, and so are files whose names do not match their folder: the
    published archive has a folder `056.dog/greg` and a file `198.spider/RENAME2`.

    Args:
        root: the data set's folder.
        classes: the number of categories to expect.
        labels: the only categories that are read, of a copy that may lack others; None for all.

    Returns:
        One row per image, with the columns path (relative to `root`) and label, sorted by path.

    Raises:
        UserError: there are more or fewer categories, or not those of `labels`; the message names the missing ones.
    """
    categories = root / "256_ObjectCategories"
    rows = [
        (path.relative_to(root).as_posix(), folder.name.partition(".")[2])
        for folder in categories.glob("[0-9][0-9][0-9].*")
        if folder.name != "257.clutter"
        for path in folder.glob(f"{folder.name[:3]}_[0-9][0-9][0-9][0-9].jpg")
    ]
    table = pd.DataFrame(rows, columns=["path", "label"]).sort_values("path", ignore_index=True)
    if labels is not None:
        return only_labels(categories, table, labels)
    if (count := table["label"].nunique()) != classes:
        numbers = {Path(path).name[:3] for path in table["path"]}
        missing = [number for index in range(classes) if (number := f"{index + 1:03d}") not in numbers]
        why = f"{count} categories with images such as 001.ak47/001_0001.jpg, the published number is {classes}"
        raise not_as_published(categories, f"{why}: {abbreviate(missing) or 'none'} missing")
    return table


def read_part_lists(root: Path, folder: str, images: str, partly: bool = False) -> pd.DataFrame:
    """Read the locations of the objects' parts from lists in CUB-200-2011's layout.

    Args:
        root: the data set's folder.
        folder, images: the folders of the lists and of the images, relative to `root`.
        partly: whether parts of images that are not in `images.txt` are skipped, and are no error.

    Returns:
        One row per part of each image in `images.txt`, with the columns path (as in the data set's `read`), part (its
        name), x and y (pixels of the stored file, before EXIF rotation; 0 for hidden parts) and visible (bool); sorted
        by path, the parts in the publisher's order.

    Raises:
        UserError: a list cannot be read.
    """
    lists = root / folder / "parts"
    paths, parts = image_paths(root, folder, images), read_numbered_list(lists / "parts.txt")
    with parsing(lists / "part_locs.txt"):
        columns = {"image": str, "part": str, "x": float, "y": float, "visible": int}
        table = pd.read_csv(lists / "part_locs.txt", sep=" ", names=list(columns), dtype=columns)
        if not np.isfinite(table[["x", "y"]]).all(axis=None):
            raise ValueError("the coordinates of a part are not finite")
        if partly:
            table = table[table["image"].isin(paths)]
        table.insert(0, "path", [paths[image] for image in table.pop("image")])
        table = table.assign(part=[parts[part] for part in table["part"]], visible=table["visible"] == 1)
    return table.sort_values("path", kind="stable", ignore_index=True)


def image_paths(root: Path, folder: str, images: str) -> dict[str, str]:
    """The path of every image (relative to `root`) by its number in `images.txt`."""
    return {image: f"{images}/{path}" for image, path in read_numbered_list(root / folder / "images.txt").items()}


def read_numbered_list(path: Path) -> dict[str, str]:
    """Parse a file of `<number> <text>` lines: the text by number."""
    with parsing(path):
        return dict(line.split(" ", 1) for line in path.read_text(encoding="utf-8").splitlines())
