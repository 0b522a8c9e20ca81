"""The figures' data: what the runs left, as flat tables that are kept under reports/plots and that DVC plots."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from delta.io.errors import UserError
from delta.report.results import gather, read_result


def curve(run: Path, metric: str) -> pd.DataFrame:
    """One of a run's learning curves: epoch (passes over the training images so far) and the metric's value.

    Raises:
        UserError: the run has no such curve.
    """
    file = run / "curves" / "plots" / "metrics" / f"{metric}.tsv"
    try:
        points = pd.read_csv(file, sep="\t", dtype={"step": float, metric: float})[["step", metric]]
    except (OSError, ValueError, KeyError, OverflowError) as error:
        raise UserError(f"{file}: no learning curve ({error}): run `dvc repro`") from None
    return pd.DataFrame({"epoch": points["step"] / read_result(run, "iterations_per_epoch"), metric: points[metric]})


def learning_curves(results: Iterable[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """Figure 3: dataset, backbone, method, schedule, seed, epoch, top1 (test, percent).

    Args:
        results: schedule names with runs trained under them, see `delta.report.results.read_results`.
    """
    columns = ["dataset", "backbone", "method", "schedule", "seed", "epoch", "top1"]
    tables = [pd.DataFrame(columns=columns)]
    for schedule, runs in results:
        for row in runs.itertuples():
            points = curve(row.run, "test_top1").rename(columns={"test_top1": "top1"})
            keys = {name: getattr(row, name) for name in ("dataset", "backbone", "method", "seed")}
            tables.append(points.assign(schedule=schedule, **keys)[columns])
    return pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)


def training_curves(results: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, epoch by epoch: dataset, backbone, method, epoch, cross_entropy, test_top1 (percent).

    The cross-entropy is the mean over the iterations of the epoch that ends there.
    """
    tables = []
    for row in results.itertuples():
        tests, losses = curve(row.run, "test_top1"), curve(row.run, "cross_entropy")
        place = np.searchsorted(tests["epoch"], losses["epoch"])
        means = losses.groupby(place)["cross_entropy"].mean()
        keys = {name: getattr(row, name) for name in ("dataset", "backbone", "method")}
        tables.append(tests.assign(cross_entropy=means.to_numpy(), **keys))
    keys = ["dataset", "backbone", "method", "epoch"]
    return pd.concat(tables).groupby(keys, sort=False)[["cross_entropy", "test_top1"]].mean().reset_index()


def sorted_distances(distances: pd.DataFrame, points: int = 101) -> pd.DataFrame:
    """Figure 5 as curves of at most `points` points: dataset, backbone, stage, method, percent, distance.

    Args:
        distances: see `read_distances`.

    Returns:
        percent of the stage's filters are farther from their starting point than `distance`, an order statistic.
    """
    rows = []
    for (dataset, backbone, stage), block in distances.groupby(["dataset", "backbone", "stage"], sort=False):
        for method in ("l2_sp", "delta"):
            falling = np.sort(block[method])[::-1]
            for place in np.unique(np.linspace(0, len(falling) - 1, points).astype(int)):
                rows.append((dataset, backbone, stage, method, 100 * place / len(falling), falling[place]))
    return pd.DataFrame(rows, columns=["dataset", "backbone", "stage", "method", "percent", "distance"])


def larger_shares(distances: pd.DataFrame) -> pd.DataFrame:
    """For how many filters DELTA's distance is larger than L2-SP's, filter by filter, by stage and for `all`.

    Returns:
        dataset, backbone, stage, filters, share (percent).
    """
    farther = distances.assign(farther=100.0 * (distances["delta"] > distances["l2_sp"]))
    both = pd.concat([farther, farther.assign(stage="all")])
    groups = both.groupby(["dataset", "backbone", "stage"], sort=False)["farther"]
    return groups.agg(filters="size", share="mean").reset_index()


def read_distances(files: Iterable[tuple[str, str, Path]]) -> pd.DataFrame:
    """`delta.analysis.filter_distances.mean_distances` of several (dataset, backbone), with these two as columns.

    Raises:
        UserError: a file cannot be read.
    """
    columns = ["stage", "layer", "filter", "l2_sp", "delta"]
    return gather(files, ["dataset", "backbone"], columns, "filter distances")
