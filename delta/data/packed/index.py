"""The index of a packed data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from delta.io.errors import UserError

_MAX_SIDE = 1 << 20  # pixels


def read_index(folder: Path, whole: bool = False) -> pd.DataFrame:
    """A packed data set's index: path, label, target and split and, if the images are packed `whole`, height and width.

    Where images are nearly the same, it also has the column group, see `delta.data.listing.write_images`.

    Raises:
        UserError: the folder has no index, or an inconsistent one.
    """
    text, sizes = dict.fromkeys(("path", "label", "split", "group"), str), ["height", "width"] if whole else []
    try:
        # Read as text, as a label may look like a number.
        index = pd.read_csv(folder / "index.csv", dtype=text, keep_default_na=False)
        groups = ["group"] if "group" in index else []
        index = index[["path", "label", "target", "split", *groups, *sizes]]
        if not index["split"].isin(["train", "test"]).all():
            raise ValueError("a split is neither train nor test")
        targets = {label: target for target, label in enumerate(sorted(index["label"].unique()))}
        if index.empty or not (index["target"] == index["label"].map(targets)).all():
            raise ValueError("a target is not the index of its label among the sorted labels")
        if not index[sizes].isin(range(1, _MAX_SIDE)).all(axis=None):
            raise ValueError("a height or width is out of range")
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: not a packed data set ({error}): run `dvc repro split`") from None
    return index


def near_duplicate_groups(index: pd.DataFrame) -> np.ndarray:
    """A number for each row of an index, int64 [n], that near-duplicates share and that others have for themselves."""
    if "group" not in index:
        return np.arange(len(index))
    alone = pd.Series([f"row {row}" for row in range(len(index))], index.index)
    return pd.factorize(index["group"].where(index["group"] != "", alone))[0].astype(np.int64)
