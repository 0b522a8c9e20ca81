"""Accuracy against the number of training images a class: several data sets that differ in that alone."""

from __future__ import annotations

import math

import pandas as pd

from delta.data.packed.index import read_index
from delta.io.errors import UserError
from delta.report.differences import find
from delta.report.inputs import Inputs
from delta.report.names import label
from delta.report.results import KEYS
from delta.report.statistics import two_way_interval

COLUMNS = [*KEYS, "train_per_class", "top1", "low", "high", "seeds", "images"]


def accuracies(inputs: Inputs) -> pd.DataFrame:
    """What the figure shows, with COLUMNS; empty where params.yaml names no data sets in `data_amount`.

    top1 is the mean over the seeds (percent), with the 95 % confidence interval over test images and seeds, of a number
    of training images a class, their mean over the classes.

    Raises:
        UserError: the data sets have other test images, a smaller one's training images are not among a larger one's,
            or a file is missing or unreadable.
    """
    section, rows = inputs.params.data_amount, []
    found = {(each.dataset, each.backbone): each for each in inputs.predictions}
    for backbone in section.backbones if section.datasets else ():
        amounts = _amounts(inputs, section.datasets, backbone)
        for method in section.methods:
            for dataset, amount in amounts.items():
                predictions = found[dataset, backbone]
                right = predictions.right[predictions.of(method)].astype(int)
                interval = two_way_interval(right)
                known = not math.isnan(interval.low)  # of one seed there is no interval
                limits = (max(interval.low, 0), min(interval.high, 100)) if known else (None, None)
                rows.append((dataset, backbone, method, amount, interval.difference, *limits, *right.shape))
    return pd.DataFrame(rows, columns=COLUMNS)


def _amounts(inputs: Inputs, datasets: list[str], backbone: str) -> dict[str, float]:
    """The number of training images a class of each data set, the smallest first."""
    indexes = {dataset: read_index(inputs.packed(dataset, backbone)) for dataset in datasets}
    amounts = {name: (each["split"] == "train").sum() / each["label"].nunique() for name, each in indexes.items()}
    amounts = dict(sorted(amounts.items(), key=lambda item: item[1]))
    names = list(amounts)
    for smaller, larger in zip(names, names[1:], strict=False):
        one, other = (
            {split: set(rows["path"]) for split, rows in indexes[name].groupby("split")} for name in (smaller, larger)
        )
        if one["test"] != other["test"]:
            raise UserError(f"data_amount.datasets: {smaller} and {larger} have other test images: take one seed")
        if not one["train"] < other["train"]:
            raise UserError(f"data_amount.datasets: some training images of {smaller} are not among {larger}'s")
    return amounts


def caption(rows: pd.DataFrame, differences: pd.DataFrame | None) -> str:
    """How the figure of one backbone is read, the best method of each amount, and where others leave the first method.

    Args:
        rows: with COLUMNS.
        differences: `reports/tables/differences.csv`, of all data sets and backbones.
    """
    images, seeds = int(rows["images"].iloc[0]), int(rows["seeds"].iloc[0])
    text = f"Mean of {seeds} {'seed' if seeds == 1 else 'seeds'} on the same {images:,} test images"
    if rows["low"].notna().any():
        text += ", with 95 % confidence intervals over images and seeds"
    text += (
        ". The training images are one random draw, smaller numbers among the larger, which the intervals do not cover."
        " Highest: "
    )
    best = rows.loc[rows.groupby("train_per_class")["top1"].idxmax()]
    text += ", ".join(
        f"{each.train_per_class:.3g} a class {label(each.method)} {each.top1:.1f} %" for each in best.itertuples()
    )
    return f"{text}. {_against_first(rows, differences)}".rstrip()


def _against_first(rows: pd.DataFrame, differences: pd.DataFrame | None) -> str:
    """For each other method, at which amounts its whole paired interval lies above and below the first method's."""
    first, *others = dict.fromkeys(rows["method"])
    if differences is None or rows["low"].isna().all():
        return ""
    amounts, parts = rows.drop_duplicates("dataset").set_index("dataset")["train_per_class"], []
    for method in others:
        sides: dict[str, list[str]] = {"above": [], "below": []}
        for dataset, amount in amounts.items():
            pair = (differences["dataset"] == dataset) & (differences["backbone"] == rows["backbone"].iloc[0])
            row = find(differences[pair], "table1", method, first)
            if row is not None and row["low"] > 0:
                sides["above"].append(f"{amount:.3g}")
            elif row is not None and row["high"] < 0:
                sides["below"].append(f"{amount:.3g}")
        texts = [f"{side} at {', '.join(found)}" for side, found in sides.items() if found]
        parts.append(f"{label(method)} {' and '.join(texts) or 'nowhere settled'}")
    return f"Against {label(first)}, by the paired interval: {'; '.join(parts)}." if parts else ""
