"""Every difference of two methods' top-1: of the runs, paired by test image and by seed, and of the paper's tables."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import combinations
from typing import Any, Literal

import pandas as pd

from delta.report import paper
from delta.report.names import label
from delta.report.predictions import Predictions
from delta.report.statistics import Interval, holm, two_way_interval, welch_interval

PAIR = ["dataset", "backbone"]
FAMILY = [*PAIR, "comparison"]  # what Holm's correction takes together
TABLES = ("table1", "table2")  # two methods within a table
IMPROVED_VIEW = "improved_view"  # one method, Table 2 minus Table 1
SIGNIFICANT = 0.05  # of Holm's p-values
NUMBERS = ["difference", "low", "high", "p", "p_holm"]
COLUMNS = [*FAMILY, "method", "other", "method_label", "other_label", *NUMBERS, "seeds", "images"]


def run_differences(default: Iterable[Predictions], improved: Iterable[Predictions]) -> pd.DataFrame:
    """All differences of Table 1, of Table 2 and between the two, with COLUMNS.

    A row is the top-1 of `method` minus that of `other`, in percentage points, with the 95 % confidence interval from
    low to high and the p-value of `delta.report.statistics.two_way_interval`, and p_holm, Holm's p-value among all rows
    of the same FAMILY. The comparison is `table1` or `table2` for two methods within a table, and `improved_view` for
    one method, Table 2 minus Table 1. What the two do not both have, seeds or images, does not count.

    Args:
        default, improved: the predictions of the runs in either view.
    """
    tables = [{(found.dataset, found.backbone): found for found in predictions} for predictions in (default, improved)]
    rows, labels = [], {}
    for pair in tables[0] | tables[1]:
        here = [table.get(pair) for table in tables]
        hits = [_hits(found) if found else {} for found in here]
        labels |= {method: name for found in here if found for method, name in found.methods.items()}
        for comparison, methods in zip(TABLES, hits, strict=True):
            for other, method in combinations(methods, 2):
                rows.append((*pair, comparison, method, other, *_compare(methods[method], methods[other])))
        for method in [method for method in hits[0] if method in hits[1]]:
            rows.append((*pair, IMPROVED_VIEW, method, method, *_compare(hits[1][method], hits[0][method])))
    return _frame(rows, labels)


@cache
def published_differences() -> pd.DataFrame:
    """The same differences, with COLUMNS, from the paper's Tables 1 and 2, without `images`.

    Of the five runs behind a mean the paper prints the standard deviation alone, so an interval is Welch's, over runs
    that are not paired.
    """
    tables = [dict(list(paper.numbers(number).groupby(PAIR, sort=False))) for number in (1, 2)]
    rows = []
    for pair in tables[0]:
        means = [table[pair].set_index("method") for table in tables]
        for comparison, methods in zip(TABLES, means, strict=True):
            for other, method in combinations(methods.index, 2):
                rows.append((*pair, comparison, method, other, *_compare_published(methods, method, methods, other)))
        for method in means[1].index:
            rows.append((*pair, IMPROVED_VIEW, method, method, *_compare_published(means[1], method, means[0], method)))
    return _frame(rows, {method: label(method) for method in paper.numbers(1)["method"].unique()})


def find(rows: pd.DataFrame, comparison: str, method: str, other: str) -> pd.Series | None:
    """The difference `method` minus `other`, also where the rows have it the other way round; None for none.

    Args:
        rows: of one data set and backbone, with COLUMNS.
    """
    keys = zip(rows["comparison"], rows["method"], rows["other"], strict=True)
    places = {key: place for place, key in enumerate(keys)}
    if (place := places.get((comparison, method, other))) is not None:
        return rows.iloc[place]
    place = places.get((comparison, other, method))
    return None if place is None else _reversed(rows.iloc[place])


def minus(rows: pd.DataFrame, comparison: str, reference: str) -> pd.DataFrame:
    """Every other method minus the reference: dataset, backbone, method and NUMBERS.

    Args:
        rows: with COLUMNS.
    """
    found = []
    for pair, block in rows.groupby(PAIR, sort=False):
        for method in dict.fromkeys([*block["other"], *block["method"]]):
            if (row := find(block, comparison, method, reference)) is not None:
                found.append((*pair, method, *row[NUMBERS]))
    return pd.DataFrame(found, columns=[*PAIR, "method", *NUMBERS])


def interval_of(row: pd.Series) -> Interval:
    """A row's difference and interval."""
    return Interval(*(float(row[name]) for name in NUMBERS[:4]))


def is_significant(row: Any) -> bool:
    """Whether a difference is significant after Holm's correction over its family."""
    return bool(row.p_holm < SIGNIFICANT)


def difference_mark(row: Any) -> Literal["", "above", "below"]:
    """Whether a difference is significantly above or below 0, as a cell's mark."""
    if not is_significant(row):
        return ""
    return "above" if row.difference > 0 else "below"


def _reversed(row: pd.Series) -> pd.Series:
    """`other` minus `method`."""
    there = row.copy()
    there["method"], there["other"] = row["other"], row["method"]
    there["method_label"], there["other_label"] = row["other_label"], row["method_label"]
    there["difference"], there["low"], there["high"] = -row["difference"], -row["high"], -row["low"]
    return there


def _hits(predictions: Predictions) -> dict[str, pd.DataFrame]:
    """By method, whether it is right: a row per test image, by its path, and a column per seed, bool."""
    return {
        method: pd.DataFrame(
            predictions.right[predictions.of(method)].T,
            index=predictions.paths,
            columns=predictions.runs.loc[predictions.of(method), "seed"],
        )
        for method in predictions.methods
    }


def _compare(one: pd.DataFrame, other: pd.DataFrame) -> tuple[Interval, int, int]:
    """The difference of two methods' hits, over how many seeds and how many images."""
    seeds, images = one.columns.intersection(other.columns), one.index.intersection(other.index)
    if not len(seeds) or not len(images):
        return Interval(*[float("nan")] * 4), len(seeds), len(images)
    hits = [table.loc[images, seeds].to_numpy(dtype=int) for table in (one, other)]
    return two_way_interval((hits[0] - hits[1]).T), len(seeds), len(images)


def _compare_published(
    table: pd.DataFrame, method: str, other_table: pd.DataFrame, other: str
) -> tuple[Interval, int, float]:
    """The difference of two published means, over how many runs of each, and NaN for the images."""
    values = [*table.loc[method, ["mean", "std"]], *other_table.loc[other, ["mean", "std"]]]
    return welch_interval(*map(float, values), paper.SEEDS), paper.SEEDS, float("nan")


def _frame(rows: list[tuple[Any, ...]], labels: dict[str, str]) -> pd.DataFrame:
    """The rows, keys then interval, seeds and images, as a frame with COLUMNS."""
    columns = [*FAMILY, "method", "other", "difference", "low", "high", "p", "seeds", "images"]
    flat = [
        (*keys, interval.difference, interval.low, interval.high, interval.p, seeds, images)
        for *keys, interval, seeds, images in rows
    ]
    frame = pd.DataFrame(flat, columns=columns).dropna(subset="difference")
    for name in ("method", "other"):
        frame[f"{name}_label"] = frame[name].map(labels)
    frame["p_holm"] = frame.groupby(FAMILY, sort=False)["p"].transform(lambda values: holm(values.to_numpy()))
    return frame[COLUMNS].reset_index(drop=True)
