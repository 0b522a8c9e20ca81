"""Every run's result as one table, and as the nested metrics that DVC compares."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from delta.io.errors import UserError

TEXTS = dict.fromkeys(["dataset", "backbone", "method", "part", "label", "category", "map", "layer"], str)


def read_results(
    runs: Path,
    datasets: Iterable[str],
    backbones: Iterable[str],
    methods: Iterable[str],
    seeds: Iterable[int],
    variant: str = "",
) -> pd.DataFrame:
    """One row a run, in the order given: dataset, backbone, method, seed, top1 (percent), source_network and device as
    texts, and run, its folder.

    Args:
        variant: what follows the method in a run folder's path: nothing for Table 1, or a setting such as `-improved`.

    Raises:
        UserError: naming the first run that is missing or unreadable.
    """
    rows = []
    for dataset, backbone, method, seed in product(datasets, backbones, methods, seeds):
        run = runs / dataset / backbone / f"{method}{variant}" / str(seed)
        top1, source_network, device = (read_result(run, name) for name in ("top1", "source_network", "device"))
        rows.append((dataset, backbone, method, seed, float(top1), source_network, device, run))
    columns = ["dataset", "backbone", "method", "seed", "top1", "source_network", "device", "run"]
    return pd.DataFrame(rows, columns=columns)


def read_result(run: Path, name: str) -> Any:
    """One entry of a run's result.json.

    Raises:
        UserError: the run is missing or unreadable.
    """
    file = run / "result.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))[name]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{file}: no result of a run ({error}): run `dvc repro`") from None


def left_out(runs: Path, results: Iterable[pd.DataFrame]) -> list[Path]:
    """The run folders below `runs` that are in none of `results`: of parameters that are no longer there."""
    return sorted(
        {file.parent for file in runs.glob("*/*/*/*/result.json")}.difference(*(each["run"] for each in results))
    )


def read_table(file: Path) -> pd.DataFrame | None:
    """A table of the report, None if it is not there; a key is a text, even where it reads like a number or nothing.

    Raises:
        UserError: the file is no table.
    """
    try:
        return pd.read_csv(file, dtype=TEXTS, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not a table ({error}): run `dvc repro`") from None


def gather(files: Iterable[tuple[Any, ...]], keys: Sequence[str], columns: Sequence[str], what: str) -> pd.DataFrame:
    """The rows of several CSV files as one table with the columns `keys` and `columns`; empty for no file.

    Args:
        files: each one's keys and path.
        columns: those that are taken of each file.
        what: stands in the file, for the error.

    Raises:
        UserError: a file is missing, is no table or lacks a column.
    """
    tables = [pd.DataFrame(columns=[*keys, *columns])]
    for *values, file in files:
        try:
            rows = pd.read_csv(file, dtype=TEXTS, keep_default_na=False, na_values=[""])[list(columns)]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{file}: no {what} ({error}): run `dvc repro`") from None
        tables.append(rows.assign(**dict(zip(keys, values, strict=True)))[[*keys, *columns]])
    return pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)


def summarize(results: pd.DataFrame) -> pd.DataFrame:
    """Mean and sample standard deviation over seeds: dataset, backbone, method, source_network, mean, std (NaN for one
    seed), seeds."""
    groups = results.groupby(["dataset", "backbone", "method", "source_network"], sort=False)["top1"]
    return groups.agg(mean="mean", std="std", seeds="size").reset_index()


def metrics(results: pd.DataFrame) -> str:
    """JSON nested data set > backbone > method > top1_mean, top1_std, per_seed; percent; no top1_std for one seed."""

    def entry(runs: pd.DataFrame) -> dict[str, Any]:
        top1 = runs.set_index("seed")["top1"]
        return over_seeds("top1", top1) | {"per_seed": per_seed(top1)}

    return nested(results, entry)


def nested(results: pd.DataFrame, entry: Callable[[pd.DataFrame], dict[str, Any]]) -> str:
    """JSON nested data set > backbone > method > the `entry` of its rows."""
    tree: dict = {}
    for (dataset, backbone, method), rows in results.groupby(["dataset", "backbone", "method"], sort=False):
        tree.setdefault(dataset, {}).setdefault(backbone, {})[method] = entry(rows)
    return json.dumps(tree, indent=2) + "\n"


def over_seeds(name: str, values: pd.Series) -> dict[str, float]:
    """`name`_mean and `name`_std, the sample standard deviation that one seed has not."""
    found = {f"{name}_mean": round(values.mean(), 4)}
    return found | ({f"{name}_std": round(values.std(), 4)} if len(values) > 1 else {})


def per_seed(values: pd.Series) -> dict[str, float]:
    """Values by seed, which is the series' index, as JSON has them."""
    return {str(seed): round(value, 4) for seed, value in values.items()}
