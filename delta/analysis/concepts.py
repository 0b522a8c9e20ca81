"""Annotated images in the format of Broden (Bau et al. 2017, "Network Dissection"): which concept is where."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from PIL import Image

from delta.data.images import BROKEN_IMAGE, decode, reason
from delta.io.errors import UserError

_ABOUT_THE_IMAGE = ("image", "split", "ih", "iw", "sh", "sw")  # columns of index.csv; the others hold annotations
_UNKNOWN = -2
_AS = {"1": "RGB", "P": "RGB", "LA": "L"}  # how a map of that mode is read
_MOST_LABELS, _LARGEST = 1 << 24, 1 << 14  # a label's number; pixels a side


@dataclass(frozen=True)
class Annotation:
    """What is annotated on one image.

    Attributes:
        labels: the labels it has, as rows of `Concepts.labels`, ascending, int64 [k].
        masks: where each of them is, bool [k, sh, sw]; everywhere, for a label of the whole image.
        categories: the categories that it is annotated for, as places in `Concepts.categories`, int64.
    """

    labels: np.ndarray
    masks: np.ndarray
    categories: np.ndarray


@dataclass(frozen=True)
class Concepts:
    """A folder of annotated images: `index.csv`, `label.csv` and `images/`.

    A cell of index.csv's annotation columns holds, between semicolons, maps of labels (PNG files below `images/` of
    sh × sw pixels, a pixel's label being R + 256·G, or its grey) and numbers of labels that the whole image has; 0 is
    no label, and several maps are several labels a pixel. A label belongs to the first category that label.csv names
    for it, and counts on the images that are annotated for that category, those whose cell is not empty.

    Attributes:
        root: the folder.
        labels: a row a label, by number: number, name, category.
        images: a row an image: image (its path below `images/`), sh, sw (the size of its maps) and the annotations.
    """

    root: Path
    labels: pd.DataFrame
    images: pd.DataFrame

    @classmethod
    def open(cls, root: Path) -> Self:
        """Raises UserError where the folder is none, or its tables contradict each other."""
        index, names = root / "index.csv", root / "label.csv"
        images, labels = _read(index, ["image", "sh", "sw"]), _read(names, ["number", "name", "category"])
        images = images.assign(**{side: _numbers(images, side, index, 1, _LARGEST) for side in ("sh", "sw")})
        categories = [text.partition(";")[0].partition("(")[0].strip() for text in labels["category"]]
        labels = labels[["name"]].assign(number=_numbers(labels, "number", names, 0, _MOST_LABELS), category=categories)
        labels = labels[labels["number"] > 0].sort_values("number", ignore_index=True)
        if labels.empty:
            raise _wrong(names, "has no label")
        if repeated := list(labels["number"][labels["number"].duplicated()]):
            raise _wrong(names, f"has the number {repeated[0]} more than once")
        for category in labels["category"].unique():
            if category not in images:
                raise _wrong(index, f"lacks the column {category}, of which label.csv has labels")
            if not images[category].any():
                raise _wrong(index, f"has no image annotated for {category}, of which label.csv has labels")
        return cls(root, labels, images)

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def categories(self) -> list[str]:
        """The labels' categories, in the order of their first labels."""
        return list(self.labels["category"].unique())

    @cached_property
    def category_of(self) -> np.ndarray:
        """Of each label its place in `categories`, int64 [labels]."""
        return pd.factorize(self.labels["category"])[0].astype(np.int64)

    @cached_property
    def _records(self) -> list[dict]:
        """The rows of `images`: one of a table takes longer to pick than its maps to read."""
        return self.images.to_dict("records")

    @cached_property
    def _rows(self) -> np.ndarray:
        """By number the label's row, -1 for none and _UNKNOWN for a number that label.csv lacks, as the last."""
        rows = np.full(self.labels["number"].max() + 2, _UNKNOWN, np.int32)
        rows[0], rows[self.labels["number"]] = -1, range(len(self.labels))
        return rows

    def image(self, row: int, side: int) -> np.ndarray:
        """An image in the test view: uint8 [side, side, 3], resized ignoring the aspect, antialiased bilinear.

        Raises:
            UserError: it is missing or broken.
        """
        path = self.root / "images" / self._records[row]["image"]
        try:
            return np.asarray(decode(path).resize((side, side), Image.Resampling.BILINEAR))
        except BROKEN_IMAGE as error:
            raise _unreadable(path, error) from None

    def annotation(self, row: int) -> Annotation:
        """What is annotated on an image.

        Raises:
            UserError: a map is missing, broken or of another size, or has a label that label.csv lacks.
        """
        record, maps, whole = self._records[row], [], []
        cells = [cell for column, cell in record.items() if column not in _ABOUT_THE_IMAGE]
        for entry in filter(None, map(str.strip, ";".join(cells).split(";"))):
            if entry.isdecimal():
                where = f"{self.root / 'index.csv'}, image {record['image']}"
                whole.append(self._known(np.array([_number(entry)]), where)[0])
            else:
                maps.append(self._map(self.root / "images" / entry, (record["sh"], record["sw"])))
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

    def _map(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        """A map's labels as rows of `labels`, -1 for none: int32 [sh, sw]."""
        try:
            with Image.open(path, formats=["PNG"]) as image:
                pixels = np.asarray(image.convert(_AS.get(image.mode, image.mode)))
        except BROKEN_IMAGE as error:
            raise _unreadable(path, error) from None
        if pixels.shape[:2] != size:
            found, meant = (f"{height} × {width}" for height, width in (pixels.shape[:2], size))
            raise _wrong(path, f"is {found} pixels high and wide, index.csv has {meant} (sh × sw)")
        return self._known(pixels if pixels.ndim == 2 else pixels[..., 0] + np.uint16(256) * pixels[..., 1], path)

    def _known(self, numbers: np.ndarray, where: Path | str) -> np.ndarray:
        """Labels' rows by their numbers."""
        rows = self._rows.take(numbers, mode="clip")
        if (unknown := rows == _UNKNOWN).any():
            raise _wrong(where, f"has the label {numbers[unknown][0]}, which label.csv lacks")
        return rows


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: not readable as a table of Broden's ({' '.join(str(error).split())}): "
            "set dissection.concepts to a folder in Broden's format"
        ) from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first cells for the rows' names
        raise _wrong(path, "has rows that are longer than its first line")
    if missing := [name for name in columns if name not in table]:
        raise _wrong(path, f"lacks the column {', '.join(missing)}")
    if table.empty:
        raise _wrong(path, "has no row")
    return table


def _numbers(table: pd.DataFrame, column: str, path: Path, least: int, most: int) -> pd.Series:
    for row, text in enumerate(table[column], start=2):
        if not text.isdecimal() or not least <= _number(text) <= most:
            raise _wrong(f"{path}:{row}", f"has {text!r:.99} as {column}, which is no number from {least} to {most}")
    return table[column].map(int)


def _number(digits: str) -> int:
    """A number, or one that is as much too large."""
    return int(digits.lstrip("0")[:10] or "0")


def _unreadable(path: Path, error: Exception) -> UserError:
    return _wrong(path, f"cannot be read ({reason(error)})")


def _wrong(where: Path | str, what: str) -> UserError:
    return UserError(f"{where}: {what}: mend it, or set dissection.concepts to other annotations")
