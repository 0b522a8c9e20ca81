"""The results of runs as one table, CSV files of analyses as one table, and the nested metrics that DVC compares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from delta.io.errors import UserError
from delta.training.result import RunResult

KEYS = ["dataset", "backbone", "method"]
NAMES = ["method_label", "other", "other_label", "part", "label", "category", "map", "layer"]
TEXTS = dict.fromkeys([*KEYS, *NAMES, "class", "target", "predicted", "path"], str)
SHARES = ["penalty_share", "penalty_share_first_epoch"]
FIELDS = ["top1", "macro", "source_network", "device", "iterations_per_epoch", "alpha", *SHARES]  # of a run's result
RUN_COLUMNS = [*KEYS, "seed", "method_label", *FIELDS, "run"]

Metrics: TypeAlias = dict[str, Any]  # data set > backbone > method > values


def read_results(runs: Iterable[tuple[str, str, str, int, Path]]) -> pd.DataFrame:
    """One row per run, in the order given, with the columns RUN_COLUMNS: top1, macro and the penalty's shares are in
    percent, run is the run's folder.

    Args:
        runs: dataset, backbone, method, seed and the run's folder.

    Raises:
        UserError: naming the first run that is missing or unreadable.
    """
    rows = []
    for *keys, run in runs:
        result = RunResult.read(run)
        rows.append((*keys, result.label, *(getattr(result, name) for name in FIELDS), run))
    return pd.DataFrame(rows, columns=RUN_COLUMNS)


def read_table(file: Path, columns: Sequence[str] = ()) -> pd.DataFrame | None:
    """A table of the report, None if there is no such file; names stay text, even "7" and "null".

    Args:
        file: a CSV file in `tables` or `plots`.
        columns: what the table must have.

    Raises:
        UserError: the file is no table, or lacks a column.
    """
    try:
        table = _read_csv(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not a table ({reason(error)}): run `dvc repro`") from None
    if missing := [column for column in columns if column not in table]:
        stage = "figures" if file.parent.name == "plots" else "tables"
        raise UserError(f"{file}: no column {', '.join(missing)}, an older version wrote it: run `dvc repro {stage}`")
    return table


def gather(files: Iterable[tuple[Any, ...]], keys: Sequence[str], columns: Sequence[str], what: str) -> pd.DataFrame:
    """The rows of several CSV files as one table with the columns `keys` and `columns`; empty for no file.

    Args:
        files: the values of `keys`, followed by the file's path.
        columns: the columns to take of each file.
        what: the content of the files, for error messages.

    Raises:
        UserError: a file is missing, is no table or lacks a column.
    """
    tables = [pd.DataFrame(columns=[*keys, *columns])]
    for *values, file in files:
        try:
            rows = _read_csv(file)[list(columns)]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{file}: no {what} ({reason(error)}): run `dvc repro`") from None
        tables.append(rows.assign(**dict(zip(keys, values, strict=True)))[[*keys, *columns]])
    return pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)


def reason(error: Exception) -> str:
    """What is wrong with a file, without its name, which an OSError repeats."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _read_csv(file: Path) -> pd.DataFrame:
    return pd.read_csv(file, dtype=TEXTS, keep_default_na=False, na_values=[""])


def nested_metrics(rows: pd.DataFrame, entry: Callable[[pd.DataFrame], dict[str, Any]]) -> Metrics:
    """Metrics nested data set > backbone > method > `entry(the rows of these three)`."""
    tree: Metrics = {}
    for (dataset, backbone, method), group in rows.groupby(KEYS, sort=False):
        tree.setdefault(dataset, {}).setdefault(backbone, {})[method] = entry(group)
    return tree


def mean_and_std(name: str, values: pd.Series) -> dict[str, float]:
    """`<name>_mean` and `<name>_std`, the sample standard deviation; the mean alone for one seed."""
    found = {f"{name}_mean": round(values.mean(), 4)}
    return found | ({f"{name}_std": round(values.std(), 4)} if len(values) > 1 else {})


def per_seed(values: pd.Series) -> dict[str, float]:
    """Values by seed, the series' index, with keys that JSON can have."""
    return {str(seed): round(value, 4) for seed, value in values.items()}
