"""The data of the figures as flat tables, which are kept under reports/plots and which DVC plots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from delta.analysis.grid_result import read_grid
from delta.io.errors import UserError
from delta.report.inputs import Inputs
from delta.report.map_figures import class_picture
from delta.report.results import KEYS, reason
from delta.report.tables.parts import read_parts
from delta.training.result import RunResult

SETTINGS = {"StepLR": "default", "ExponentialLR": "exponential"}  # of the runs under each schedule
PAIR = ["dataset", "backbone"]


def plot_tables(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Every figure's data by file name.

    Part activation, gallery and maps are left out when empty. The others are written even when empty, because dvc.yaml
    names them.

    Raises:
        UserError: a run or an analysis's output is missing or unreadable.
    """
    distances = read_distances(inputs)
    tables = {
        "learning_curves": learning_curves(inputs),
        "training": training_curves(inputs.runs),
        "grid": read_grid(inputs.fold_files()),
        "filter_distances": sorted_distances(distances),
        "filter_shares": larger_shares(distances),
    }
    asked_for = {"part_activation": read_parts(inputs), "gallery": read_gallery(inputs), **read_map_tables(inputs)}
    return tables | {name: table for name, table in asked_for.items() if not table.empty}


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


def learning_curves(inputs: Inputs) -> pd.DataFrame:
    """Figure 3: dataset, backbone, method, schedule, seed, epoch, top1 (test, percent)."""
    columns = [*KEYS, "schedule", "seed", "epoch", "top1"]
    tables = [pd.DataFrame(columns=columns)]
    for schedule, setting in SETTINGS.items():
        for row in inputs.runs_with(setting, "learning_curves").itertuples():
            points = curve(row.run, "test_top1").rename(columns={"test_top1": "top1"})
            keys = {name: getattr(row, name) for name in (*KEYS, "seed")}
            tables.append(points.assign(schedule=schedule, **keys)[columns])
    return pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)


def training_curves(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds, epoch by epoch: dataset, backbone, method, epoch, cross_entropy, test_top1 (percent).

    The cross-entropy is the mean over the iterations of the epoch that ends there.

    Args:
        runs: see `delta.report.results.read_results`.
    """
    tables = []
    for row in runs.itertuples():
        tests, losses = curve(row.run, "test_top1"), curve(row.run, "cross_entropy")
        place = np.searchsorted(tests["epoch"], losses["epoch"])
        means = losses.groupby(place)["cross_entropy"].mean()
        keys = {name: getattr(row, name) for name in KEYS}
        tables.append(tests.assign(cross_entropy=means.to_numpy(), **keys))
    groups = pd.concat(tables).groupby([*KEYS, "epoch"], sort=False)
    return groups[["cross_entropy", "test_top1"]].mean().reset_index()


def read_distances(inputs: Inputs) -> pd.DataFrame:
    """How far each filter moved: dataset, backbone, stage, layer, filter, l2_sp, delta.

    Raises:
        UserError: a file cannot be read.
    """
    return inputs.read("filter_distances", "filter_distances.csv", ["stage", "layer", "filter", "l2_sp", "delta"])


def sorted_distances(distances: pd.DataFrame, points: int = 101) -> pd.DataFrame:
    """Figure 5 as curves of at most `points` points: dataset, backbone, stage, method, percent, distance.

    Args:
        distances: see `read_distances`.

    Returns:
        percent of the stage's filters are farther from their starting point than `distance`, an order statistic.
    """
    rows = []
    for (dataset, backbone, stage), block in distances.groupby([*PAIR, "stage"], sort=False):
        for method in ("l2_sp", "delta"):
            falling = np.sort(block[method])[::-1]
            for place in np.unique(np.linspace(0, len(falling) - 1, points).astype(int)):
                rows.append((dataset, backbone, stage, method, 100 * place / len(falling), falling[place]))
    return pd.DataFrame(rows, columns=[*PAIR, "stage", "method", "percent", "distance"])


def larger_shares(distances: pd.DataFrame) -> pd.DataFrame:
    """For how many filters DELTA's distance is larger than L2-SP's, filter by filter, by stage and for `all`.

    Args:
        distances: see `read_distances`.

    Returns:
        dataset, backbone, stage, filters, share (percent).
    """
    farther = distances.assign(farther=100.0 * (distances["delta"] > distances["l2_sp"]))
    both = pd.concat([farther, farther.assign(stage="all")])
    return both.groupby([*PAIR, "stage"], sort=False)["farther"].agg(filters="size", share="mean").reset_index()


def read_gallery(inputs: Inputs) -> pd.DataFrame:
    """The concepts that each network of the first seed detects best, with its best unit for each: dataset, backbone,
    method, label, category, unit, iou and file, the name of the unit's picture in the report.

    Raises:
        UserError: a gallery is missing or unreadable.
    """
    rows = _gallery(inputs)
    return rows.assign(file=["-".join(texts) for texts in rows[[*KEYS, "file"]].itertuples(index=False)])


def unit_pictures(inputs: Inputs) -> list[tuple[Path, str]]:
    """Each picture that `read_gallery` names: the file that the stage dissect left, and its name in the report."""
    folders = {tuple(keys): folder for *keys, folder in inputs.outputs("dissection", _first_dissection(inputs))}
    files = _gallery(inputs)[[*KEYS, "file"]].itertuples(index=False)
    return [(folders[tuple(keys)] / file, "-".join([*keys, file])) for *keys, file in files]


def _gallery(inputs: Inputs) -> pd.DataFrame:
    name = f"{_first_dissection(inputs)}/gallery.csv"
    return inputs.read("dissection", name, ["label", "category", "unit", "iou", "file"])


def _first_dissection(inputs: Inputs) -> str:
    return f"dissection/{{method}}/{inputs.params.seeds[0]}"


def read_map_tables(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """What the stage measure_activation_maps left, as tables with dataset and backbone by name:

    - activation_maps: label, path, map (`network` or a filter's number), method, area (percent of the map above one
      half), correlation (with L2-SP's map of the same image; NaN where one is constant);
    - map_filters: filter, source_mean, tuned_mean, considered, filters, layer;
    - map_classes: label, path, file (the name of its picture in the report).

    Raises:
        UserError: a table is missing or unreadable.
    """

    def read(name: str, columns: list[str]) -> pd.DataFrame:
        return inputs.read("activation_maps", f"activation_maps/{name}.csv", columns)

    classes = read("images", ["label", "path"])
    numbers = classes.groupby(PAIR, sort=False).cumcount()
    files = [
        class_picture(*pair, image) for *pair, image in classes[PAIR].assign(image=numbers).itertuples(index=False)
    ]
    return {
        "activation_maps": read("maps", ["label", "path", "map", "method", "area", "correlation"]),
        "map_filters": read("filters", ["filter", "source_mean", "tuned_mean", "considered", "filters", "layer"]),
        "map_classes": classes.assign(file=files),
    }
