"""The channel weights C·W_j of a method's run, as a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from delta.io.errors import UserError


def write_channel_weights(path: Path, channel_weights: Mapping[str, np.ndarray]) -> None:
    """Write channel weights as CSV: layer, filter, channel_weight; one row per filter.

    Args:
        channel_weights: C·W_j, float64 [C] by feature layer; empty for a method without attention.
    """
    write_filter_table(path, channel_weights, "channel_weight")


def read_channel_weights(path: Path) -> dict[str, np.ndarray]:
    """C·W_j by feature layer, float64 [C] each, from a file that `write_channel_weights` wrote.

    Raises:
        UserError: the file cannot be read.
    """
    return read_filter_table(path, "channel_weight")


def write_filter_table(path: Path, values: Mapping[str, np.ndarray], column: str) -> None:
    """Write a number for each filter as CSV: layer, filter and `column`.

    Args:
        values: float64 [C] by layer.
    """
    empty = pd.DataFrame(columns=["layer", "filter", column])
    tables = [
        pd.DataFrame({"layer": layer, "filter": range(len(numbers)), column: numbers})
        for layer, numbers in values.items()
    ]
    (pd.concat(tables) if tables else empty).to_csv(path, index=False)


def read_filter_table(path: Path, column: str) -> dict[str, np.ndarray]:
    """What `write_filter_table` wrote: float64 [C] by layer.

    Raises:
        UserError: the file cannot be read, or a filter has no finite number.
    """
    try:
        table = pd.read_csv(path, dtype={"layer": str, column: float})[["layer", "filter", column]]
        if not np.isfinite(table[column]).all() or table.isna().any(axis=None):
            raise ValueError(f"a filter has no finite {column}")
        if not (table["filter"] == table.groupby("layer").cumcount()).all():
            raise ValueError("a layer's filters are not numbered from 0")
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror}): run `dvc repro`") from None
    except (ValueError, KeyError, OverflowError) as error:
        raise UserError(f"{path}: not readable ({error}): run `dvc repro`") from None
    return {layer: rows[column].to_numpy() for layer, rows in table.groupby("layer", sort=False)}
