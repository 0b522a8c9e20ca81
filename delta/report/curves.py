"""The runs' curves: of the training losses and of the accuracy on the test images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from delta.io.errors import UserError
from delta.methods.registry import method_class
from delta.report.inputs import Inputs
from delta.report.results import KEYS, reason
from delta.training.result import RunResult

SETTINGS = {"StepLR": "default", "ExponentialLR": "exponential"}  # of the runs under each schedule
LOSSES = ["cross_entropy", "penalty"]


def curve(run: Path, metric: str) -> pd.DataFrame:
    """One of a run's learning curves: epoch (passes over the training images so far) and the metric's value.

    Raises:
        UserError: the run has no such curve.
    """
    file = run / "curves" / "plots" / "metrics" / f"{metric}.tsv"
    try:
        points = pd.read_csv(file, sep="\t", dtype={"step": float, metric: float})[["step", metric]]
    except (OSError, ValueError, KeyError, OverflowError) as error:
        raise UserError(f"{file}: no learning curve ({reason(error)}): run `dvc repro`") from None
    epoch = points["step"] / RunResult.read(run).iterations_per_epoch
    return pd.DataFrame({"epoch": epoch, metric: points[metric]})


def with_curves(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that were trained by gradient descent: neither the probe's nor those of a method that trains nothing."""
    return runs[runs["method"].map(lambda method: method_class(method).trains).astype(bool)]


def learning_curves(inputs: Inputs) -> pd.DataFrame:
    """Figure 3: dataset, backbone, method, schedule, seed, epoch, top1 (test, percent) and drop_epoch, after which the
    learning rate is lower; NaN under ExponentialLR, which lowers it after every epoch."""
    columns = [*KEYS, "schedule", "seed", "epoch", "top1", "drop_epoch"]
    tables = [pd.DataFrame(columns=columns)]
    for schedule, setting in SETTINGS.items():
        for row in inputs.runs_with(setting, "learning_curves").itertuples():
            points = curve(row.run, "test_top1").rename(columns={"test_top1": "top1"})
            keys = {name: getattr(row, name) for name in (*KEYS, "seed")}
            drop = inputs.params.training.decay_after / row.iterations_per_epoch if schedule == "StepLR" else np.nan
            tables.append(points.assign(schedule=schedule, drop_epoch=drop, **keys)[columns])
    return pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)


def training_curves(runs: pd.DataFrame) -> pd.DataFrame:
    """The losses of every epoch, means over its iterations and the seeds: dataset, backbone, method, epoch,
    cross_entropy, penalty (α · Ω_shared). `epoch` is where it ends; the last one may be shorter. The probe has none.

    Args:
        runs: see `delta.report.results.read_results`.
    """
    tables = []
    for row in with_curves(runs).itertuples():
        epochs = curve(row.run, LOSSES[0])
        for name in LOSSES[1:]:
            epochs[name] = curve(row.run, name)[name]
        numbers = np.ceil(epochs["epoch"].round(9)).to_numpy()
        ends = epochs.groupby(numbers).agg({"epoch": "max"} | dict.fromkeys(LOSSES, "mean"))
        tables.append(ends.assign(**{name: getattr(row, name) for name in KEYS}))
    return pd.concat(tables).groupby([*KEYS, "epoch"], sort=False)[LOSSES].mean().reset_index()
