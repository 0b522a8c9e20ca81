"""The data of the figures as flat tables, which are kept under reports/plots and which DVC plots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from delta.analysis.grid_result import of_alpha_and_beta
from delta.report import data_amount
from delta.report.confusion import best_plot_rows, plot_rows
from delta.report.curves import learning_curves, training_curves
from delta.report.inputs import Inputs
from delta.report.map_figures import class_picture
from delta.report.results import KEYS
from delta.report.tables.parts import read_parts

PAIR = ["dataset", "backbone"]


def plot_tables(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Every figure's data by file name, in which a `/` is a folder.

    Part activation, gallery, maps and data amounts are left out when empty. The others are written even when empty, as
    dvc.yaml names them.

    Raises:
        UserError: a run or an analysis's output is missing or unreadable.
    """
    distances = read_distances(inputs)
    tables = {
        "learning_curves": learning_curves(inputs),
        "training": training_curves(inputs.runs),
        "grid": of_alpha_and_beta(inputs.grid),
        "filter_distances": sorted_distances(mean_distances(distances)),
        "filter_shares": larger_shares(distances),
        **{f"confusion/{name}": rows for each in inputs.predictions for name, rows in plot_rows(each).items()},
        **{f"confusion/{name}": rows for each in inputs.recommended for name, rows in best_plot_rows(each).items()},
    }
    asked_for = {"part_activation": read_parts(inputs), **read_map_tables(inputs)}
    if inputs.params.report.photographs:
        asked_for["gallery"] = read_gallery(inputs)
    asked_for["data_amount"] = data_amount.accuracies(inputs)
    return tables | {name: table for name, table in asked_for.items() if not table.empty}


def read_distances(inputs: Inputs) -> pd.DataFrame:
    """How far each filter moved: dataset, backbone, seed, stage, layer, filter, l2_sp, delta.

    Raises:
        UserError: a file cannot be read.
    """
    columns = ["seed", "stage", "layer", "filter", "l2_sp", "delta"]
    table = inputs.read("filter_distances", "filter_distances.csv", columns)
    return table.astype({"l2_sp": float, "delta": float})  # also of no rows


def mean_distances(distances: pd.DataFrame) -> pd.DataFrame:
    """Every filter's distances averaged over the seeds: dataset, backbone, stage, layer, filter, l2_sp, delta.

    Args:
        distances: see `read_distances`.
    """
    filters = distances.groupby([*PAIR, "stage", "layer", "filter"], sort=False)
    return filters[["l2_sp", "delta"]].mean().reset_index()


def sorted_distances(distances: pd.DataFrame, points: int = 101) -> pd.DataFrame:
    """Figure 5 as curves of at most `points` points: dataset, backbone, stage, method, percent, distance.

    Args:
        distances: see `mean_distances`.

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
    """For how many filters DELTA's distance is larger than L2-SP's, filter by filter, and how far the farthest 1 % of
    DELTA's filters lie, by seed and by stage and for `all`.

    Args:
        distances: see `read_distances`.

    Returns:
        dataset, backbone, stage, seed, filters, share (percent) and reach, at least how many times as far as the median
        filter the farthest 1 % lie; NaN where the median filter did not move.
    """
    farther = distances.assign(farther=100.0 * (distances["delta"] > distances["l2_sp"]))
    groups = pd.concat([farther, farther.assign(stage="all")]).groupby([*PAIR, "stage", "seed"], sort=False)
    shares = groups["farther"].agg(filters="size", share="mean")
    medians = groups["delta"].median()
    return shares.assign(reach=groups["delta"].quantile(0.99) / medians.where(medians > 0)).reset_index()


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
    return f"dissection/{{method}}/{inputs.seeds('dissection')[0]}"


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
        class_picture(*pair, image, inputs.params.report.photographs)
        for *pair, image in classes[PAIR].assign(image=numbers).itertuples(index=False)
    ]
    return {
        "activation_maps": read("maps", ["label", "path", "map", "method", "area", "correlation"]),
        "map_filters": read("filters", ["filter", "source_mean", "tuned_mean", "considered", "filters", "layer"]),
        "map_classes": classes.assign(file=files),
    }
