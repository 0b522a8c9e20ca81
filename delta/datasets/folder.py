"""A user's own photographs: a folder of class folders, or a CSV file of path,label."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from tqdm import tqdm

from delta.data.duplicates import group_numbers, identical_files, picture_hash, similar_pictures
from delta.data.images import DECODE_ERRORS, decode_with_remarks, failure_reason, map_in_order
from delta.datasets.own_files import LABELS, list_files
from delta.io.errors import UserError, abbreviate
from delta.io.signals import say

COLUMNS = ["path", "label", "split", "group"]


def copy_images(
    source: Path, out: Path, duplicates: Literal["keep", "drop"] | None = None, split_here: bool = True
) -> None:
    """Copy a user's images into the folder `out`, with a table of their labels in `labels.csv`.

    Args:
        source: a folder or a CSV file, see `delta.datasets.own_files.list_files`.
        duplicates: what becomes of byte-identical images. None: an error if they have different labels, or are in both
            parts of the user's own split. `drop`: one of those with the same label is kept, a test image if there is
            one; those with different labels are all left out. `keep`: they are copied as they are.
        split_here: whether the images are to be split at random, so the source must not bring a split; otherwise it
            must.

    Raises:
        UserError: the source cannot be used, see `list_files`, it has duplicates, or some files are not readable
            images; the message names them.
    """
    own = list_files(source)
    if split_here and "split" in own.table:
        raise UserError(f"{source}: brings its own split: leave out train_per_class, test_per_class and seed")
    if not split_here and "split" not in own.table:
        raise UserError(f"{source}: brings no split of its own: it needs train_per_class, test_per_class and seed")
    files, before = own.table, _states(own.table)
    for note in own.notes:
        say(f"note: {note}")
    copies = identical_files(files["file"])
    if duplicates is None:
        _check_duplicates(source, files, copies)
    elif duplicates == "drop":
        files, copies = _without_duplicates(source, files, copies), []
    hashes = _copy(files, out)
    if not _states(list_files(source).table).equals(before):
        raise UserError(f"{source}: was changed while it was being copied: run again")
    pairs = [pair for places in copies for pair in pairwise(places)] + similar_pictures(hashes)
    table = files.assign(group=pd.array(group_numbers(len(files), pairs), "Int64"))
    if pairs:
        near = table["group"].dropna()
        say(
            f"note: {len(near):,} photographs are nearly the same as others, in {near.nunique():,} group(s), each of "
            "which stays on one side of a split; the report lists them"
        )
    table[[column for column in COLUMNS if column in table]].to_csv(out / LABELS, index=False)


def read(root: Path) -> pd.DataFrame:
    """Read the table that `copy_images` wrote, sorted by path: path (relative to `root`), label, split if the user has
    split the images, and group, the number of a group of images that are nearly the same; empty for none.

    Raises:
        UserError: the table is missing or damaged.
    """
    try:
        table = pd.read_csv(root / LABELS, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{root / LABELS}: {error}: run `dvc repro download`") from None
    if list(table) not in (COLUMNS, [column for column in COLUMNS if column != "split"]):
        raise UserError(f"{root / LABELS}: does not have the columns path, label and group: run `dvc repro download`")
    return table.sort_values("path", ignore_index=True)


def _states(files: pd.DataFrame) -> pd.DataFrame:
    """The files with their size and modification time."""
    states = [file.stat() for file in files["file"]]
    return files.assign(size=[state.st_size for state in states], changed=[state.st_mtime_ns for state in states])


def _check_duplicates(source: Path, files: pd.DataFrame, copies: Iterable[list[int]]) -> None:
    """Refuse byte-identical images of different labels, or on both sides of the user's own split.

    Raises:
        UserError: there are some; the message names them.
    """
    wrong = []
    for same in (files.iloc[places] for places in copies):
        if same["label"].nunique() > 1:
            wrong.append(f"{' = '.join(same['path'])} (different labels)")
        elif "split" in same and same["split"].nunique() > 1:
            wrong.append(f"{' = '.join(same['path'])} (training and test)")
    if wrong:
        raise UserError(
            f"{source}: {len(wrong):,} photograph(s) with two labels, or both in training and test, byte for byte: "
            f"{abbreviate(wrong)}: remove the wrong ones, or set `duplicates: drop` or `keep` of the data set"
        )


def _without_duplicates(source: Path, files: pd.DataFrame, copies: Iterable[list[int]]) -> pd.DataFrame:
    """The files without byte-identical ones, see `duplicates: drop` of `copy_images`.

    Raises:
        UserError: nothing is left of a class, or of its training or test images.
    """
    dropped: list[int] = []
    for same in (files.iloc[places] for places in copies):
        kept = same.sort_values(["split", "path"] if "split" in same else "path").index[0]
        dropped += [place for place in same.index if place != kept or same["label"].nunique() > 1]
    if dropped:
        names = abbreviate(list(files["path"][sorted(dropped)]))
        say(f"note: dropped {len(dropped):,} photograph(s) that others equal byte for byte: {names}")
    left, keys = files.drop(index=dropped).reset_index(drop=True), [key for key in COLUMNS[1:3] if key in files]
    before, after = (rows[keys].drop_duplicates().agg(", ".join, axis=1) for rows in (files, left))
    if gone := sorted(set(before) - set(after)):
        raise UserError(f"{source}: `duplicates: drop` leaves no photograph of {abbreviate(gone)}: give each one label")
    return left


def _copy(files: pd.DataFrame, out: Path) -> list[np.ndarray | None]:
    """Copy the files and return the hash of each picture, see `delta.data.duplicates.picture_hash`.

    Raises:
        UserError: some files are not readable images; the message names them.
    """
    sources, paths = list(files["file"]), list(files["path"])

    def attempt(row: int) -> tuple[np.ndarray | None, Iterable[str]] | str:
        try:
            paths[row].encode()  # a name that is not valid UTF-8 cannot be written to a table
            image, remarks = decode_with_remarks(sources[row])
            return picture_hash(image), remarks
        except DECODE_ERRORS as error:
            return failure_reason(error)

    hashes: list[np.ndarray | None] = []
    bad: list[str] = []
    remarks: dict[str, list[str]] = defaultdict(list)
    results: Iterator[tuple[np.ndarray | None, Iterable[str]] | str] = map_in_order(attempt, len(files))
    for row, result in enumerate(tqdm(results, total=len(files), desc="copy", unit="image")):
        if isinstance(result, str):
            bad.append(f"{sources[row]} ({result})")
            continue
        hashes.append(result[0])
        for remark in result[1]:
            remarks[remark].append(paths[row])
        (out / paths[row]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sources[row], out / paths[row])
    if bad:
        raise UserError(f"{len(bad)} unreadable image file(s): {abbreviate(bad)}: repair or remove them")
    for remark, named in remarks.items():
        say(f"note: {len(named):,} photograph(s) {remark}: {abbreviate(named)}")
    return hashes
