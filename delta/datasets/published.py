"""What a data set's publisher ships, and whether what is here is all of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from delta.io.errors import UserError
from delta.io.files import is_file
from delta.io.remote_file import RemoteFile


@dataclass(frozen=True)
class Published:
    """The publisher's facts about a data set.

    Attributes:
        files: archives and lists (.txt).
        classes: how many.
        train, test: images in each of the publisher's own splits; None where there are none.
    """

    files: tuple[RemoteFile, ...]
    classes: int
    train: int | None = None
    test: int | None = None


def checked(root: Path, rows: Iterable[tuple[str, str, str]], published: Published) -> pd.DataFrame:
    """The table of the images that a publisher's lists name.

    Args:
        root: the data set's folder.
        rows: path below it, label and split of each image.

    Returns:
        path, label, split, sorted by path.

    Raises:
        UserError: saying by how much the lists differ from the published counts, and which listed files are missing or
            listed twice.
    """
    table = pd.DataFrame(rows, columns=["path", "label", "split"]).sort_values("path", ignore_index=True)
    splits = table["split"].value_counts()
    counts = [
        ("classes", table["label"].nunique(), published.classes),
        ("training images", splits.get("train", 0), published.train),
        ("test images", splits.get("test", 0), published.test),
    ]
    wrong = [
        f"its lists hold {held:,} {what}, published are {meant:,}" for what, held, meant in counts if held != meant
    ]
    if repeated := list(table["path"][table["path"].duplicated()]):
        wrong.append(f"{len(repeated):,} file(s) listed more than once: {few(repeated)}")
    if missing := [path for path in table["path"] if not is_file(root / path)]:
        wrong.append(f"{len(missing):,} of {len(table):,} listed files missing: {few(missing)}")
    if wrong:
        raise not_as_published(root, "; ".join(wrong))
    return table


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the publisher's file that could not be read or holds something else than it should.

    Raises:
        UserError: for whatever the block raises; SciPy has nearly every kind of error for a damaged .mat file.
    """
    try:
        yield
    except Exception as error:
        raise not_as_published(path, f"{type(error).__name__}, {' '.join(str(error).split())}") from None


def not_as_published(path: Path, why: str) -> UserError:
    """The error for a file or folder that is not what its publisher ships."""
    return UserError(f"{path}: not as published: {why}: delete its download and run `dvc repro --force download`")


def few(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
