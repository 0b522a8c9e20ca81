"""The index of a packed data set."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from delta.errors import UserError


def read_index(folder: Path) -> pd.DataFrame:
    """A packed data set's index: path, label, target, split and, of images packed whole, height and width.

    Raises:
        UserError: the folder has none.
    """
    text = dict.fromkeys(("path", "label", "split"), str)  # a label may look like a number
    try:
        return pd.read_csv(folder / "index.csv", dtype=text, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: not a packed data set ({error}): run `dvc repro split`") from None
