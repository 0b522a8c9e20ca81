"""The paper's claims, each checked against the numbers of a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import ge, le

import numpy as np
import pandas as pd

from delta.analysis.grid_result import best_cell, cells
from delta.analysis.map_files import REFERENCE
from delta.report import paper
from delta.report.interpretability_claims import detector_claims, map_claims, part_claim
from delta.report.names import label
from delta.report.statistics import format_difference, is_significant
from delta.report.verdicts import Claim, Outcome, check_claim, is_empty, missing_methods

SMOOTHNESS_EPOCHS = 4


def check_claims(
    table1: pd.DataFrame | None = None,
    table2: pd.DataFrame | None = None,
    curves: pd.DataFrame | None = None,
    grid: pd.DataFrame | None = None,
    shares: pd.DataFrame | None = None,
    table3: pd.DataFrame | None = None,
    table4: pd.DataFrame | None = None,
    maps: pd.DataFrame | None = None,
) -> list[Claim]:
    """The claims of the paper's sections 4.2 to 4.4, in the order of its argument.

    Args:
        table1, table2, table3, table4: `reports/tables/table1.csv` and so on.
        curves: `reports/plots/learning_curves.csv`.
        grid: `reports/plots/grid.csv`.
        shares: `reports/plots/filter_shares.csv`.
        maps: `reports/plots/activation_maps.csv`.

    Returns:
        All claims, also those that the run has no numbers for. Any frame may be empty or None.
    """
    lowest, highest = paper.FARTHER_FILTERS_RANGE
    return [
        *_table1_claims(table1),
        *_table2_claims(table1, table2),
        *_curve_claims(curves),
        check_claim(
            f"α = β = {paper.ALPHA:g} is the best cell of the grid.",
            "Section 4.2, Figure 4",
            "No other cell has a larger mean over the folds; a cell that diverged on any fold cannot be the best.",
            grid,
            "no grid search in this run",
            _paper_pair_is_best,
        ),
        check_claim(
            f"About {paper.FARTHER_FILTERS} % of the filters lie farther from their starting point with DELTA than "
            "with L2-SP.",
            "Section 4.4, Figure 5",
            f"The share over all filters, compared one by one, is between {lowest} % and {highest} %.",
            shares,
            "no filter distances in this run",
            _most_filters_are_farther,
        ),
        part_claim(table3),
        *detector_claims(table4),
        *map_claims(maps),
    ]


def _table1_claims(table: pd.DataFrame | None) -> list[Claim]:
    source = "Section 4.3, Table 1"
    interval = "the interval is the 95 % confidence interval of the difference paired by seed"
    claims = [
        ("DELTA is at least as accurate as L2-SP.", "delta", ge, "l2_sp"),
        ("Attention helps: DELTA is at least as accurate as DELTA(w/o ATT).", "delta", ge, "delta_wo_att"),
        ("Attention on weights does not help: L2-SP(ATT) is at most as accurate as L2-SP.", "l2_sp_att", le, "l2_sp"),
        ("The starting point helps: L2-SP is at least as accurate as L2.", "l2_sp", ge, "l2"),
    ]
    compared = [
        check_claim(
            text,
            source,
            f"{label(method)}'s mean over the seeds is {'not below' if holds is ge else 'not above'} {label(other)}'s"
            + (f"; {interval}." if REFERENCE in (method, other) else "."),
            table,
            "no Table 1 in this run",
            partial(_compare, method=method, holds=holds, other=other),
        )
        for text, method, holds, other in claims
    ]
    best = check_claim(
        "DELTA is the most accurate of all methods.",
        source,
        "No other method in the table has a larger mean over the seeds.",
        table,
        "no Table 1 in this run",
        _delta_is_best,
    )
    return [*compared, best]


def _table2_claims(table1: pd.DataFrame | None, table2: pd.DataFrame | None) -> list[Claim]:
    source = "Section 4.3, Table 2"
    no_data = "no data set of this run asks for the improved view"
    keys = ["dataset", "backbone", "method"]
    both = None
    if not (is_empty(table1) or is_empty(table2)):
        both = table2.merge(table1[[*keys, "mean"]], on=keys, suffixes=("", "_default"))
    return [
        check_claim(
            "With the improved view L2, L2-SP, L2-SP(ATT) and DELTA are all more accurate.",
            source,
            "Each of the four means over the seeds is above the same method's mean in Table 1.",
            both,
            no_data,
            _all_improve,
        ),
        check_claim(
            "With the improved view DELTA is still the most accurate.",
            source,
            "No other method in the table has a larger mean over the seeds.",
            table2,
            no_data,
            _delta_is_best,
        ),
    ]


def _curve_claims(curves: pd.DataFrame | None) -> list[Claim]:
    source = "Section 4.3, Figure 3"
    no_data = "no learning curves in this run"
    faster = [
        check_claim(
            f"DELTA converges faster than L2-SP under {schedule}.",
            source,
            "The mean of the test top-1 over the epochs, which is the area under the learning curve by its length, is "
            "larger, averaged over the seeds.",
            curves,
            no_data,
            partial(_converges_faster, schedule=schedule),
        )
        for schedule in ("StepLR", "ExponentialLR")
    ]
    smoother = check_claim(
        "DELTA's learning curve is smoother than L2-SP's.",
        source,
        "The mean absolute second difference of the test top-1 over whole epochs, averaged over the seeds, is smaller "
        "under every schedule of the run.",
        curves,
        no_data,
        _is_smoother,
    )
    return [*faster, smoother]


def _compare(rows: pd.DataFrame, method: str, holds: Callable[[float, float], bool], other: str) -> Outcome:
    means = rows.set_index("method")["mean"]
    if missing := missing_methods(means.index, method, other):
        return missing
    evidence = f"{means[method]:.1f} against {means[other]:.1f}, {format_difference(means[method] - means[other])}"
    if REFERENCE in (method, other):
        compared = rows.set_index("method").loc[method if other == REFERENCE else other]
        evidence += _describe_interval(compared, is_minus_reference=other == REFERENCE)
    theirs = rows.set_index("method")["paper_mean"]
    if theirs[[method, other]].notna().all():
        evidence += f"; in the paper {theirs[method]:.1f} against {theirs[other]:.1f}"
    return bool(holds(means[method], means[other])), evidence


def _describe_interval(row: pd.Series, is_minus_reference: bool) -> str:
    """A difference's confidence interval in words, of a method minus L2-SP or of L2-SP minus the method."""
    if pd.isna(row["low"]):
        return f"; {_no_interval(int(row['seeds']))}"
    low, high = (row["low"], row["high"]) if is_minus_reference else (-row["high"], -row["low"])
    found = "excludes 0" if is_significant(low, high) else "the interval contains 0: not settled by these seeds"
    return f" [{format_difference(low)}, {format_difference(high)}], {found}"


def _delta_is_best(rows: pd.DataFrame) -> Outcome:
    means = rows.set_index("method")["mean"]
    if missing := missing_methods(means.index, "delta"):
        return missing
    others = means.drop("delta")
    if others.empty:
        return "no other method than DELTA"
    next_best = others.idxmax()
    return (
        bool(means["delta"] >= others[next_best]),
        f"DELTA {means['delta']:.1f}, the best of the others {label(next_best)} {others[next_best]:.1f}",
    )


def _all_improve(rows: pd.DataFrame) -> Outcome:
    table = rows.set_index("method")
    if missing := missing_methods(table.index, *paper.IMPROVED_VIEW_METHODS):
        return missing
    table = table.loc[list(paper.IMPROVED_VIEW_METHODS)]
    gains = table["mean"] - table["mean_default"]
    parts = [
        f"{label(key)} {row['mean_default']:.1f} → {row['mean']:.1f} ({format_difference(gains[key])})"
        for key, row in table.iterrows()
    ]
    return bool((gains > 0).all()), ", ".join(parts)


def _converges_faster(rows: pd.DataFrame, schedule: str) -> Outcome:
    rows = rows[rows["schedule"] == schedule]
    if not {"delta", "l2_sp"} <= set(rows["method"]):
        return f"no learning curves of both L2-SP and DELTA under {schedule}"
    delta, l2_sp = (_seed_mean(rows, method, _mean_over_epochs) for method in ("delta", "l2_sp"))
    return delta > l2_sp, f"{delta:.1f} against {l2_sp:.1f}, {format_difference(delta - l2_sp)}"


def _is_smoother(rows: pd.DataFrame) -> Outcome:
    rows = rows[rows["epoch"] % 1 == 0]
    verdicts = []
    for schedule, curves in rows.groupby("schedule", sort=False):
        epochs = curves.groupby(["method", "seed"]).size()
        if not {"delta", "l2_sp"} <= set(curves["method"]) or epochs.min() < SMOOTHNESS_EPOCHS:
            continue
        delta, l2_sp = (_seed_mean(curves, method, _roughness) for method in ("delta", "l2_sp"))
        verdicts.append((delta < l2_sp, f"{schedule} {delta:.2f} against {l2_sp:.2f}"))
    if not verdicts:
        return "no schedule with learning curves of both L2-SP and DELTA over four whole epochs"
    return all(smoother for smoother, _ in verdicts), ", ".join(evidence for _, evidence in verdicts)


def _seed_mean(rows: pd.DataFrame, method: str, of_curve: Callable[[pd.DataFrame], float]) -> float:
    curves = rows[rows["method"] == method].sort_values("epoch").groupby("seed")
    return float(np.mean([of_curve(curve) for _, curve in curves]))


def _mean_over_epochs(curve: pd.DataFrame) -> float:
    """The mean of top-1 over the epochs, by the trapezoidal rule, as the last epoch may be shorter."""
    epoch, top1 = curve["epoch"].to_numpy(float), curve["top1"].to_numpy(float)
    return np.trapezoid(top1, epoch) / (epoch[-1] - epoch[0]) if len(epoch) > 1 else top1[0]


def _roughness(curve: pd.DataFrame) -> float:
    """The mean absolute second difference of top-1."""
    return np.abs(np.diff(curve["top1"].to_numpy(float), 2)).mean()


def _paper_pair_is_best(rows: pd.DataFrame) -> Outcome:
    table = cells(rows)
    here = table[np.isclose(table["alpha"], paper.ALPHA) & np.isclose(table["beta"], paper.BETA)]
    pair = f"α = β = {paper.ALPHA:g}"
    if here.empty or len(table) == 1:
        return f"the grid has no {'cell' if here.empty else 'other cell than'} {pair}"
    cell, best = here.iloc[0], best_cell(table)
    if best is None:
        return False, "every cell diverged"
    found = f"the best cell is α = {best['alpha']:g}, β = {best['beta']:g} with {best['mean']:.1f}"
    if cell["failed"]:
        return False, f"{pair} diverged; {found}"
    return bool(round(cell["mean"], 9) >= best["mean"]), f"{pair} has {cell['mean']:.1f}; {found}"


def _most_filters_are_farther(rows: pd.DataFrame) -> Outcome:
    whole, (lowest, highest) = rows[rows["stage"] == "all"].iloc[0], paper.FARTHER_FILTERS_RANGE
    return bool(lowest <= whole["share"] <= highest), f"{whole['share']:.1f} % of {whole['filters']:,} filters"


def _no_interval(seeds: int) -> str:
    """Says that one or two seeds give no confidence interval."""
    return "one seed gives no interval" if seeds == 1 else "two seeds give no interval"
