"""The tables of a data set as it is published: its images, and the parts of the objects on them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from delta.io.errors import UserError


def write_images(folder: Path, table: pd.DataFrame) -> None:
    """Write the table of a data set's images into a folder.

    Args:
        table: path (relative to the data set's folder, posix), label and, where the publisher chose it, split (train
            or test); a row an image.
    """
    table.to_csv(folder / "images.csv", index=False)


def read_images(folder: Path) -> pd.DataFrame:
    """What `write_images` wrote.

    Raises:
        UserError: the folder has no such table.
    """
    return _read(folder / "images.csv", dict.fromkeys(("path", "label"), str))


def write_parts(folder: Path, table: pd.DataFrame) -> None:
    """Write where the parts of a data set's objects are into a folder.

    Args:
        table: path (as in `write_images`), part (its name), x and y (pixels of the file, as it is stored) and visible
            (bool): a row a part of each image, sorted by path, the parts in the annotation's order.
    """
    table.to_csv(folder / "parts.csv", index=False)


def read_parts(folder: Path) -> pd.DataFrame:
    """What `write_parts` wrote.

    Raises:
        UserError: the folder has no such table, as the data set has no part annotations.
    """
    return _read(folder / "parts.csv", {"path": str, "part": str, "x": float, "y": float, "visible": bool})


def _read(file: Path, kinds: dict[str, type]) -> pd.DataFrame:
    try:
        table = pd.read_csv(file, dtype=kinds, keep_default_na=False, float_precision="round_trip")
        if missing := [column for column in kinds if column not in table]:
            raise ValueError(f"no column {', '.join(missing)}")
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not readable ({error}): run `dvc repro download`") from None
    return table
