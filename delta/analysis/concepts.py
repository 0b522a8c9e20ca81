"""Images with concept annotations in the format of Broden (Bau et al. 2017, "Network Dissection")."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from PIL import Image

from delta.data.images import DECODE_ERRORS, decode, failure_reason
from delta.io.errors import UserError

_IMAGE_COLUMNS = ("image", "split", "ih", "iw", "sh", "sw")  # of index.csv; the others hold annotations
_NO_LABEL, _UNKNOWN = -1, -2
_CONVERTED_MODES = {"1": "RGB", "P": "RGB", "LA": "L"}  # Pillow's mode of a label map -> the mode to read it in
_MAX_LABEL, _MAX_SIDE = 1 << 24, 1 << 14  # a label's number; pixels


@dataclass(frozen=True)
class Annotation:
    """The annotations of one image.

    Attributes:
        labels: its labels as ascending row indices of `Concepts.labels`, int64 [k].
        masks: the pixels of each label, bool [k, sh, sw]; all pixels for a label of the whole image.
        categories: the categories that it is annotated for, as indices into `Concepts.categories`, int64 [m].
    """

    labels: np.ndarray
    masks: np.ndarray
    categories: np.ndarray


@dataclass(frozen=True)
class Concepts:
    """A folder of annotated images: `index.csv`, `label.csv` and `images/`.

    Each annotation column of index.csv is a category. A cell lists, separated by semicolons, label maps (PNG files in
    `images/` of sh × sw pixels, where a pixel's label number is R + 256·G, or its grey value) and numbers of labels of
    the whole image. 0 is no label. Several maps give a pixel several labels. A label belongs to the first category
    that label.csv lists for it, and is evaluated on the images that are annotated for that category, which are those
    with a non-empty cell.

    Attributes:
        root: the folder.
        labels: one row per label, sorted by number: number, name, category.
        images: one row per image: image (its path relative to `images/`), sh, sw (the size of its maps) and the
            annotations.
    """

    root: Path
    labels: pd.DataFrame
    images: pd.DataFrame

    @classmethod
    def open(cls, root: Path) -> Self:
        """Open a folder; raise UserError if its tables are missing, damaged or inconsistent."""
        index, names = root / "index.csv", root / "label.csv"
        images, labels = _read(index, ["image", "sh", "sw"]), _read(names, ["number", "name", "category"])
        images = images.assign(**{side: _numbers(images, side, index, 1, _MAX_SIDE) for side in ("sh", "sw")})
        categories = [text.partition(";")[0].partition("(")[0].strip() for text in labels["category"]]
        labels = labels[["name"]].assign(number=_numbers(labels, "number", names, 0, _MAX_LABEL), category=categories)
        labels = labels[labels["number"] > 0].sort_values("number", ignore_index=True)
        if labels.empty:
            raise _invalid(names, "has no labels")
        if repeated := list(labels["number"][labels["number"].duplicated()]):
            raise _invalid(names, f"has the number {repeated[0]} more than once")
        for category in labels["category"].unique():
            if category not in images:
                raise _invalid(index, f"lacks the column {category}, which is a category in label.csv")
            if not images[category].any():
                raise _invalid(index, f"has no image annotated for {category}, which is a category in label.csv")
        return cls(root, labels, images)

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def categories(self) -> list[str]:
        """The labels' categories, in order of their first labels."""
        return list(self.labels["category"].unique())

    @cached_property
    def category_of(self) -> np.ndarray:
        """The category of each label, as an index into `categories`: int64 [labels]."""
        return pd.factorize(self.labels["category"])[0].astype(np.int64)

    @cached_property
    def _records(self) -> list[dict[str, Any]]:
        """The rows of `images` as dictionaries: accessing a row of a DataFrame takes longer than reading its maps."""
        return self.images.to_dict("records")

    @cached_property
    def _rows(self) -> np.ndarray:
        """The row of `labels` for each label number, or _UNKNOWN; the last entry is for all larger numbers. int32."""
        rows = np.full(self.labels["number"].max() + 2, _UNKNOWN, np.int32)
        rows[0], rows[self.labels["number"]] = _NO_LABEL, range(len(self.labels))
        return rows

    def image(self, row: int, side: int) -> np.ndarray:
        """An image resized to a square, ignoring the aspect ratio: uint8 [side, side, 3], antialiased bilinear.

        Raises:
            UserError: the file is missing or damaged.
        """
        path = self.root / "images" / self._records[row]["image"]
        try:
            return np.asarray(decode(path).resize((side, side), Image.Resampling.BILINEAR))
        except DECODE_ERRORS as error:
            raise _unreadable(path, error) from None

    def annotation(self, row: int) -> Annotation:
        """The annotations of an image.

        Args:
            row: of `images`.

        Raises:
            UserError: a map is missing, damaged or of another size, or has a label that label.csv lacks.
        """
        record, maps = self._records[row], []
        whole: list[int] = []  # rows of labels of the whole image
        cells = [cell for column, cell in record.items() if column not in _IMAGE_COLUMNS]
        for entry in filter(None, map(str.strip, ";".join(cells).split(";"))):
            if entry.isdecimal():
                where = f"{self.root / 'index.csv'}, image {record['image']}"
                whole.append(self._label_rows(np.array([_number(entry)]), where)[0])
            else:
                maps.append(self._read_map(self.root / "images" / entry, (record["sh"], record["sw"])))
        annotated = np.array([bool(record[category]) for category in self.categories])
        present = np.zeros(len(self.labels), bool)
        for rows in (*maps, np.array(whole, int)):
            present |= np.bincount(rows.ravel() + 1, minlength=len(self.labels) + 1)[1:] > 0
        labels = np.flatnonzero(present & annotated[self.category_of])
        masks = np.zeros((len(labels), record["sh"], record["sw"]), bool)
        for rows in maps:
            masks |= rows == labels[:, None, None].astype(rows.dtype)
        masks[np.isin(labels, whole)] = True
        return Annotation(labels, masks, np.flatnonzero(annotated))

    def _read_map(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        """A label map as rows of `labels`, or -1 for no label: int32 [sh, sw]."""
        try:
            with Image.open(path, formats=["PNG"]) as image:
                pixels = np.asarray(image.convert(_CONVERTED_MODES.get(image.mode, image.mode)))
        except DECODE_ERRORS as error:
            raise _unreadable(path, error) from None
        if pixels.shape[:2] != size:
            found, expected = (f"{height} × {width}" for height, width in (pixels.shape[:2], size))
            raise _invalid(path, f"is {found} pixels high and wide, but {expected} (sh × sw) in index.csv")
        return self._label_rows(pixels if pixels.ndim == 2 else pixels[..., 0] + np.uint16(256) * pixels[..., 1], path)

    def _label_rows(self, numbers: np.ndarray, where: Path | str) -> np.ndarray:
        """The rows of `labels` with the given label numbers; -1 for number 0. `where` is for the error message."""
        rows = self._rows.take(numbers, mode="clip")
        if (unknown := rows == _UNKNOWN).any():
            raise _invalid(where, f"has the label {numbers[unknown][0]}, which label.csv lacks")
        return rows


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: not readable as a table in Broden's format ({error}): "
            "set dissection.concepts to a folder in Broden's format"
        ) from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes surplus cells as row names
        raise _invalid(path, "has rows with more cells than the first line")
    if missing := [name for name in columns if name not in table]:
        raise _invalid(path, f"lacks the column {', '.join(missing)}")
    if table.empty:
        raise _invalid(path, "has no rows")
    return table


def _numbers(table: pd.DataFrame, column: str, path: Path, low: int, high: int) -> pd.Series:
    """Parse a column of integers from `low` to `high`."""
    for row, text in enumerate(table[column], start=2):
        if not text.isdecimal() or not low <= _number(text) <= high:
            raise _invalid(f"{path}:{row}", f"has {text!r:.99} as {column}, which is not a number from {low} to {high}")
    return table[column].map(int)


def _number(digits: str) -> int:
    """Parse digits, of which only the first ten count: larger numbers are out of range anyway."""
    return int(digits.lstrip("0")[:10] or "0")


def _unreadable(path: Path, error: Exception) -> UserError:
    return _invalid(path, f"cannot be read ({failure_reason(error)})")


def _invalid(where: Path | str, what: str) -> UserError:
    return UserError(f"{where}: {what}: fix it, or set dissection.concepts to other annotations")
