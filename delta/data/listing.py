"""The tables of a published data set: its images, and the parts of the objects on them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from delta.io.errors import UserError

NEAR_DUPLICATES = ["group", "path", "label", "split"]  # the columns of near_duplicates.csv


def write_images(folder: Path, table: pd.DataFrame) -> None:
    """Write the table of a data set's images, `images.csv`, into a folder.

    Args:
        table: one row per image, with the columns path (relative to the data set's folder, POSIX), label and, if it
            comes with one, split (train or test); of a user's own images also group, the number of a group of images
            that are nearly the same, empty for none.
    """
    table.to_csv(folder / "images.csv", index=False)


def read_images(folder: Path) -> pd.DataFrame:
    """Read the table that `write_images` wrote.

    Raises:
        UserError: the folder has no such table.
    """
    return _read(folder / "images.csv", dict.fromkeys(("path", "label"), str), {"split": str, "group": str})


def write_near_duplicates(folder: Path, table: pd.DataFrame, index: pd.DataFrame) -> None:
    """Write the images that are nearly the same as others, `near_duplicates.csv`, into a folder; nothing for none.

    Args:
        table: see `write_images`.
        index: those of its images that are used, with the columns path and split.
    """
    if "group" not in table or not table["group"].any():
        return
    split = dict(zip(index["path"], index["split"], strict=True))
    found = table[table["group"] != ""].sort_values("path")
    found = found.assign(split=found["path"].map(split).fillna(""), group=found["group"].astype(int))
    found.sort_values("group", kind="stable")[NEAR_DUPLICATES].to_csv(folder / "near_duplicates.csv", index=False)


def read_near_duplicates(folder: Path) -> pd.DataFrame | None:
    """What `write_near_duplicates` wrote: group, path, label and split (train, test; empty for an image that is not
    used); None for nothing.

    Raises:
        UserError: the file cannot be read.
    """
    file = folder / "near_duplicates.csv"
    return _read(file, dict.fromkeys(NEAR_DUPLICATES, str)) if file.exists() else None


def write_parts(folder: Path, table: pd.DataFrame) -> None:
    """Write the table of the locations of objects' parts, `parts.csv`, into a folder.

    Args:
        table: one row per part of each image, with the columns path (as in `write_images`), part (its name), x and y
            (pixels of the stored file, before EXIF rotation) and visible (bool); sorted by path, the parts in the
            annotation's order.
    """
    table.to_csv(folder / "parts.csv", index=False)


def read_parts(folder: Path) -> pd.DataFrame:
    """Read the table that `write_parts` wrote.

    Raises:
        UserError: the folder has no such table: the data set has no part annotations.
    """
    return _read(folder / "parts.csv", {"path": str, "part": str, "x": float, "y": float, "visible": bool})


def _read(file: Path, dtypes: dict[str, type], further: dict[str, type] | None = None) -> pd.DataFrame:
    try:
        table = pd.read_csv(file, dtype=dtypes | (further or {}), keep_default_na=False)
        if missing := [column for column in dtypes if column not in table]:
            raise ValueError(f"no column {', '.join(missing)}")
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise UserError(f"{file}: not readable ({reason}): run `dvc repro download`") from None
    return table
