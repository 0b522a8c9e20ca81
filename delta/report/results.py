"""Every run's result as one table, and as the nested metrics that DVC compares."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import pandas as pd

from delta.errors import UserError


def read_results(
    runs: Path, datasets: Iterable[str], backbones: Iterable[str], methods: Iterable[str], seeds: Iterable[int]
) -> pd.DataFrame:
    """One row a run: dataset, backbone, method, seed, top1 (percent), in the order given.

    Raises:
        UserError: naming the first run that is missing or unreadable.
    """
    rows = []
    for dataset, backbone, method, seed in product(datasets, backbones, methods, seeds):
        file = runs / dataset / backbone / method / str(seed) / "result.json"
        try:
            rows.append((dataset, backbone, method, seed, float(json.loads(file.read_text(encoding="utf-8"))["top1"])))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{file}: no result of a run ({error}): run `dvc repro`") from None
    return pd.DataFrame(rows, columns=["dataset", "backbone", "method", "seed", "top1"])


def left_out(runs: Path, results: pd.DataFrame) -> list[Path]:
    """The run folders below `runs` that are no row of `results`: of parameters that are no longer there."""
    rows = {
        runs / dataset / backbone / method / str(seed)
        for dataset, backbone, method, seed in results[["dataset", "backbone", "method", "seed"]].itertuples(
            index=False
        )
    }
    return sorted({file.parent for file in runs.glob("*/*/*/*/result.json")} - rows)


def summarize(results: pd.DataFrame) -> pd.DataFrame:
    """Mean and sample standard deviation over seeds: dataset, backbone, method, mean, std (NaN for one seed), seeds."""
    groups = results.groupby(["dataset", "backbone", "method"], sort=False)["top1"]
    return groups.agg(mean="mean", std="std", seeds="size").reset_index()


def metrics(results: pd.DataFrame) -> str:
    """JSON nested data set > backbone > method > top1_mean, top1_std, per_seed; percent; no top1_std for one seed."""
    nested: dict = {}
    for (dataset, backbone, method), runs in results.groupby(["dataset", "backbone", "method"], sort=False):
        entry = {"top1_mean": round(runs["top1"].mean(), 4)}
        if len(runs) > 1:
            entry["top1_std"] = round(runs["top1"].std(), 4)
        entry["per_seed"] = {str(seed): round(top1, 4) for seed, top1 in zip(runs["seed"], runs["top1"], strict=True)}
        nested.setdefault(dataset, {}).setdefault(backbone, {})[method] = entry
    return json.dumps(nested, indent=2) + "\n"
