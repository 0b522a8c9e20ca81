"""What the publisher of a data set provides, and checking that a download is complete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from delta.io.errors import UserError, abbreviate
from delta.io.files import is_file
from delta.io.remote_file import RemoteFile


@dataclass(frozen=True)
class PublishedDataset:
    """A data set as its publisher provides it.

    Attributes:
        files: archives and lists (.txt).
        folder: the folder of images, or of images and lists, that the archives unpack to.
        classes: the number of classes.
        train, test: the number of images in each of the publisher's splits; None if it defines none.
        labels: the only classes that are read, of a copy that may lack others; None for all. With them, the three
            numbers are not checked.
    """

    files: tuple[RemoteFile, ...]
    folder: str
    classes: int
    train: int | None = None
    test: int | None = None
    labels: tuple[str, ...] | None = None


def image_table(root: Path, rows: Iterable[tuple[str, str, str]], published: PublishedDataset) -> pd.DataFrame:
    """The table of the images in a publisher's lists, checked for completeness.

    Args:
        root: the data set's folder.
        rows: path relative to `root`, label and split of each image.
        published: the counts to expect.

    Returns:
        One row per image, with the columns path, label and split, sorted by path.

    Raises:
        UserError: the counts differ from the published ones, or listed files are missing or listed twice.
    """
    table = pd.DataFrame(rows, columns=["path", "label", "split"]).sort_values("path", ignore_index=True)
    if published.labels is not None:
        table = only_labels(root, table, published.labels)
        problems = []
    else:
        splits = table["split"].value_counts()
        counts = [
            ("classes", table["label"].nunique(), published.classes),
            ("training images", splits.get("train", 0), published.train),
            ("test images", splits.get("test", 0), published.test),
        ]
        problems = [
            f"its lists have {count:,} {what}, the published number is {expected:,}"
            for what, count, expected in counts
            if count != expected
        ]
    if repeated := list(table["path"][table["path"].duplicated()]):
        problems.append(f"{len(repeated):,} file(s) listed more than once: {abbreviate(repeated)}")
    if missing := [path for path in table["path"] if not is_file(root / path)]:
        problems.append(f"{len(missing):,} of {len(table):,} listed files missing: {abbreviate(missing)}")
    if problems:
        raise not_as_published(root, "; ".join(problems))
    return table


def only_labels(root: Path, table: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """The images of some classes.

    Raises:
        UserError: there are none of some classes; the message names these.
    """
    known = sorted(table["label"].unique())
    if missing := [label for label in labels if label not in known]:
        raise UserError(f"{root}: no images of {abbreviate(missing)}: choose `classes` from {abbreviate(known, 50)}")
    return table[table["label"].isin(labels)].reset_index(drop=True)


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Turn any exception in the block, which parses the publisher's file `path`, into a UserError that names it.

    Raises:
        UserError: for any exception, as SciPy raises nearly any for a damaged .mat file.
    """
    try:
        yield
    except Exception as error:
        raise not_as_published(path, f"{type(error).__name__}, {error}") from None


def not_as_published(path: Path, why: str) -> UserError:
    """The error for a file or folder that differs from what its publisher provides."""
    advice = "delete its download and run `dvc repro --force download`, or complete your copy of it"
    return UserError(f"{path}: not as published: {why}: {advice}")
