"""What the publisher of a data set provides, and checking that a download is complete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
        classes: the number of classes.
        train, test: the number of images in each of the publisher's splits; None if it defines none.
    """

    files: tuple[RemoteFile, ...]
    classes: int
    train: int | None = None
    test: int | None = None


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
    return UserError(f"{path}: not as published: {why}: delete its download and run `dvc repro --force download`")
