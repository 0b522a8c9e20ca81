"""Layouts on disk that more than one data set has: Caltech 256's category folders and CUB-200-2011's lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from delta.datasets.published import few, not_as_published, reading


def read_categories(root: Path, classes: int) -> pd.DataFrame:
    """Caltech 256's layout, `256_ObjectCategories/001.ak47/001_0001.jpg`: every image of every category.

    `257.clutter` is no category. Whatever is not named as an image of its folder is a stray and skipped: the
    published archive holds the folder `056.dog/greg` and the file `198.spider/RENAME2`.

    Args:
        classes: how many categories there must be.

    Returns:
        path (relative to `root`) and label, sorted by path.

    Raises:
        UserError: there are more or fewer categories; the missing numbers are named.
    """
    categories = root / "256_ObjectCategories"
    rows = [
        (path.relative_to(root).as_posix(), folder.name.partition(".")[2])
        for folder in categories.glob("[0-9][0-9][0-9].*")
        if folder.name != "257.clutter"
        for path in folder.glob(f"{folder.name[:3]}_[0-9][0-9][0-9][0-9].jpg")
    ]
    table = pd.DataFrame(rows, columns=["path", "label"]).sort_values("path", ignore_index=True)
    if (held := table["label"].nunique()) != classes:
        numbers = {Path(path).name[:3] for path in table["path"]}
        missing = [number for place in range(classes) if (number := f"{place + 1:03d}") not in numbers]
        why = f"{held} categories with images such as 001.ak47/001_0001.jpg, published are {classes}"
        raise not_as_published(categories, f"{why}: {few(missing) or 'none'} missing")
    return table


def read_part_lists(root: Path, folder: str, images: str) -> pd.DataFrame:
    """CUB-200-2011's lists of parts: where the parts of every object are.

    Args:
        root: the data set's folder.
        folder, images: where below it the lists and the images lie.

    Returns:
        path (as `read` has it), part (its name), x and y (pixels of the file, as it is stored; 0 where the part is
        hidden) and visible (bool): a row a part of each image, sorted by path, the parts in the publisher's order.

    Raises:
        UserError: a list cannot be read.
    """
    lists = root / folder / "parts"
    paths, parts = image_paths(root, folder, images), by_number(lists / "parts.txt")
    with reading(lists / "part_locs.txt"):
        columns = {"image": str, "part": str, "x": float, "y": float, "visible": int}
        table = pd.read_csv(lists / "part_locs.txt", sep=" ", names=list(columns), dtype=columns)
        if not np.isfinite(table[["x", "y"]]).all(axis=None):
            raise ValueError("a part lies nowhere")
        table.insert(0, "path", [paths[image] for image in table.pop("image")])
        table = table.assign(part=[parts[part] for part in table["part"]], visible=table["visible"] == 1)
    return table.sort_values("path", kind="stable", ignore_index=True)


def image_paths(root: Path, folder: str, images: str) -> dict[str, str]:
    """The path of every image, relative to `root`, by its number in `images.txt`."""
    return {image: f"{images}/{path}" for image, path in by_number(root / folder / "images.txt").items()}


def by_number(path: Path) -> dict[str, str]:
    """What a list of `<number> <text>` lines has for each number."""
    with reading(path):
        return dict(line.split(" ", 1) for line in path.read_text(encoding="utf-8").splitlines())
