"""The claims of section 4.4 on what the networks look at: Tables 3 and 4, Figures 6 and 7."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from delta.report import paper
from delta.report.map_statistics import correlations_with_l2_sp, mean_areas
from delta.report.names import network_label
from delta.report.statistics import format_correlation, format_count
from delta.report.verdicts import Claim, Outcome, check_claim, is_empty, missing_methods


def part_claim(table3: pd.DataFrame | None) -> Claim:
    return check_claim(
        "DELTA has the highest activation at the parts of all five networks.",
        "Section 4.4, Table 3",
        "No other network in the table has a larger mean over the seeds.",
        table3,
        "no data set of this run has its part activation measured",
        _highest_at_the_parts,
    )


def detector_claims(table4: pd.DataFrame | None) -> list[Claim]:
    claims = [
        (
            "DELTA has more unique detectors than L2-SP.",
            "The mean over the seeds of objects, scenes, parts, textures and colors together is larger.",
            _more_detectors,
        ),
        (
            "DELTA detects more objects, scenes, parts and colors than L2-SP.",
            "Of the four means over the seeds none is smaller and at least three are larger, as on each of the paper's "
            "data sets.",
            _more_of_most_kinds,
        ),
        (
            "DELTA and L2-SP detect comparably many textures.",
            "The means over the seeds differ by at most a fifth of L2-SP's, as on each of the paper's data sets.",
            _comparable_textures,
        ),
    ]
    no_data = "no data set of this run has its networks dissected"
    return [check_claim(text, "Section 4.4, Table 4", rule, table4, no_data, check) for text, rule, check in claims]


def map_claims(maps: pd.DataFrame | None) -> list[Claim]:
    source, no_data = "Section 4.4, Figures 6 and 7", "no activation maps in this run"
    maps = None if is_empty(maps) else maps[maps["map"] != "network"]
    return [
        check_claim(
            "Without attention DELTA's activation maps are more or less L2-SP's; attention changes them.",
            source,
            "Averaged over the shown images and filters, the correlation with L2-SP's map is larger for DELTA(w/o ATT) "
            "than for DELTA; a map without any contrast has none and is left out.",
            maps,
            no_data,
            _attention_changes_maps,
        ),
        check_claim(
            "With attention the maps are more concentrated.",
            source,
            "The share of the image on which a map is above half of its range, averaged over the shown images and "
            "filters, is the smallest of the five networks for DELTA; a map without any contrast is left out.",
            maps,
            no_data,
            _maps_are_concentrated,
        ),
    ]


def _highest_at_the_parts(rows: pd.DataFrame) -> Outcome:
    table = rows.set_index("method")
    if missing := missing_methods(table.index, *paper.INTERPRETED_METHODS):
        return missing
    evidence = _delta_and_next_best(table["mean"])
    if table["paper_mean"][list(paper.INTERPRETED_METHODS)].notna().all():
        evidence += f"; in the paper {_delta_and_next_best(table['paper_mean'].dropna())}"
    return bool(table["mean"]["delta"] >= table["mean"].max()), evidence


def _delta_and_next_best(means: pd.Series) -> str:
    """DELTA's mean part activation and the best of the others."""
    others = means.drop("delta")
    best = others.idxmax()
    delta, next_best = (f"{mean:.{paper.PART_DIGITS}f}" for mean in (means["delta"], others[best]))
    return f"DELTA {delta}, the best of the others {network_label(best)} {next_best}"


def _more_detectors(rows: pd.DataFrame) -> Outcome:
    if missing := missing_methods(rows["method"].unique(), "delta", "l2_sp"):
        return missing
    delta, l2_sp = (_means(rows, method)["sum"] for method in ("delta", "l2_sp"))
    return bool(delta > l2_sp), _against(rows, ["sum"])


def _more_of_most_kinds(rows: pd.DataFrame) -> Outcome:
    if missing := missing_methods(rows["method"].unique(), "delta", "l2_sp"):
        return missing
    gains = (_means(rows, "delta") - _means(rows, "l2_sp"))[list(paper.RISING_DETECTORS)]
    return bool((gains >= 0).all() and (gains > 0).sum() >= paper.LEAST_RISES), _against(rows, paper.RISING_DETECTORS)


def _comparable_textures(rows: pd.DataFrame) -> Outcome:
    if missing := missing_methods(rows["method"].unique(), "delta", "l2_sp"):
        return missing
    delta, l2_sp = (_means(rows, method)["textures"] for method in ("delta", "l2_sp"))
    return bool(abs(delta - l2_sp) <= paper.COMPARABLE_TEXTURES * l2_sp), _against(rows, ["textures"])


def _means(rows: pd.DataFrame, method: str, column: str = "mean") -> pd.Series:
    return rows[rows["method"] == method].set_index("metric")[column]


def _against(rows: pd.DataFrame, metrics: Sequence[str]) -> str:
    """DELTA's counts against L2-SP's, and the paper's if it has them."""
    sentences = []
    for column, start in (("mean", ""), ("paper_mean", "in the paper ")):
        delta, l2_sp = (_means(rows, method, column)[list(metrics)] for method in ("delta", "l2_sp"))
        if delta.notna().all() and l2_sp.notna().all():
            names = ["" if len(metrics) == 1 else f"{metric} " for metric in metrics]
            pairs = zip(names, delta, l2_sp, strict=True)
            parts = [f"{name}{_number(ours)} against {_number(theirs)}" for name, ours, theirs in pairs]
            sentences.append(start + ", ".join(parts))
    return "; ".join(sentences)


def _number(mean: float) -> str:
    return format_count(mean, float("nan")) if mean == round(mean) else f"{mean:.1f}"


def _attention_changes_maps(rows: pd.DataFrame) -> Outcome:
    if missing := missing_methods(rows["method"].unique(), "delta_wo_att", "delta"):
        return missing
    found = correlations_with_l2_sp(rows)
    if found.empty:
        return "no filter's map that has contrast with all of L2-SP, DELTA(w/o ATT) and DELTA"
    evidence = ", ".join(f"{network_label(method)} {format_correlation(value)}" for method, value in found.items())
    return bool(found["delta_wo_att"] > found["delta"]), evidence


def _maps_are_concentrated(rows: pd.DataFrame) -> Outcome:
    if missing := missing_methods(rows["method"].unique(), *paper.INTERPRETED_METHODS):
        return missing
    areas, left_out = mean_areas(rows[rows["method"].isin(paper.INTERPRETED_METHODS)])
    if constant := [network_label(method) for method in paper.INTERPRETED_METHODS if method not in areas]:
        return f"no filter's map of {' and '.join(constant)} has any contrast"
    evidence = ", ".join(f"{network_label(method)} {areas[method]:.1f} %" for method in paper.INTERPRETED_METHODS)
    return bool(areas["delta"] <= areas.min()), evidence + left_out
