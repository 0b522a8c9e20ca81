"""The claims of section 4.4: filter distances (Figure 5), Tables 3 and 4, activation maps (Figures 6 and 7)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from delta.report import paper
from delta.report.map_statistics import image_areas, image_correlations
from delta.report.names import network_label
from delta.report.seed_differences import published_delta_minus_others
from delta.report.statistics import Interval, format_correlation, format_count
from delta.report.verdicts import (
    LESS,
    MORE,
    Claim,
    Outcome,
    Rule,
    Verdict,
    all_of,
    check_claim,
    describe,
    is_empty,
    judge_sample,
    missing_methods,
)

VERY_FAR = 3  # times as far as the median filter
LEAST_KINDS = 3  # "most" of the four kinds of concepts
NO_CONTRAST = "no filter's map that has contrast with all of L2-SP, DELTA(w/o ATT) and DELTA"
SIMILAR = 0.7  # correlation above which maps are more or less the same; half of the variance is common
BY_SEED = "The 95 % confidence interval is Student's over the seeds alone."
BY_IMAGE = (
    "The 95 % confidence interval is Student's over the shown images, of one seed's networks; it does not cover other "
    "seeds or filters."
)


def distance_claims(shares: pd.DataFrame | None) -> list[Claim]:
    """The claims on Figure 5.

    Args:
        shares: `reports/plots/filter_shares.csv`.
    """
    source, no_data = "Section 4.4, Figure 5", "no filter distances in this run"
    lowest, highest = paper.FARTHER_FILTERS_RANGE
    return [
        check_claim(
            f"About {paper.FARTHER_FILTERS} % of the filters lie farther from their starting point with DELTA than "
            "with L2-SP.",
            source,
            f"The share over all filters, compared one by one: supported where its interval lies between {lowest} % "
            f"and {highest} %, contradicted where it lies outside. {BY_SEED}",
            shares,
            no_data,
            _most_filters_are_farther,
        ),
        check_claim(
            "With DELTA a small number of filters is driven very far away from the initial value.",
            source,
            "How many times as far as a stage's median filter its farthest 1 % lie, at least: supported where the "
            f"interval lies above {VERY_FAR} in every stage, contradicted where at or below in one. {BY_SEED}",
            shares,
            no_data,
            _a_few_are_very_far,
        ),
    ]


def part_claim(table3: pd.DataFrame | None) -> Claim:
    """The claim on Table 3.

    Args:
        table3: `reports/tables/table3.csv`.
    """
    return check_claim(
        "DELTA has the highest activation at the parts of all five networks.",
        "Section 4.4, Table 3",
        "DELTA minus each other network: supported where all intervals lie above 0, contradicted where one lies at or "
        f"below 0. {BY_SEED} The source network is one.",
        table3,
        "no data set of this run has its part activation measured",
        _highest_at_the_parts,
        published_delta_minus_others(paper.numbers(3)),
        by_values=True,
    )


def detector_claims(table4: pd.DataFrame | None) -> list[Claim]:
    """The claims on Table 4.

    Args:
        table4: `reports/tables/table4.csv`.
    """
    claims = [
        (
            "DELTA has more unique detectors than L2-SP.",
            "Objects, scenes, parts, textures and colors together: supported where the difference's interval lies "
            f"above 0, contradicted where at or below. {BY_SEED}",
            _more_detectors,
        ),
        (
            "DELTA has significantly more detectors of most kinds: objects, scenes, parts and colors.",
            f"Supported where the difference's interval lies above 0 for at least {LEAST_KINDS} of the four kinds, "
            f"contradicted where it lies at or below 0 for more than {4 - LEAST_KINDS}. {BY_SEED}",
            _more_of_most_kinds,
        ),
        (
            "DELTA and L2-SP detect comparably many textures.",
            f"Supported where the difference's interval lies within {paper.COMPARABLE_TEXTURES:.0%} of L2-SP's number, "
            f"contradicted where it lies outside; not judged where neither network detects one. {BY_SEED}",
            _comparable_textures,
        ),
    ]
    numbers = paper.numbers(4).assign(metric=lambda rows: rows["metric"].str.removeprefix("unique_detectors_"))
    published = published_delta_minus_others(numbers, by=["metric"])
    no_data = "no data set of this run has its networks dissected"
    return [
        check_claim(text, "Section 4.4, Table 4", rule, table4, no_data, check, published, by_values=True)
        for text, rule, check in claims
    ]


def map_claims(maps: pd.DataFrame | None) -> list[Claim]:
    """The claims on Figures 6 and 7.

    Args:
        maps: `reports/plots/activation_maps.csv`.
    """
    source, no_data = "Section 4.4, Figures 6 and 7", "no activation maps in this run"
    maps = None if is_empty(maps) else maps[maps["map"] != "network"]
    left_out = "Maps without contrast for one of the networks are left out for all."
    return [
        check_claim(
            "Without attention DELTA's activation maps are more or less those of other methods.",
            source,
            "The mean correlation of the maps of DELTA(w/o ATT) with L2-SP's: supported where its interval lies above "
            f"{SIMILAR:g}, contradicted where at or below. {left_out} {BY_IMAGE}",
            maps,
            no_data,
            _maps_are_similar,
        ),
        check_claim(
            "Attention changes the activation maps significantly.",
            source,
            "The mean correlation with L2-SP's maps of DELTA(w/o ATT) minus that of DELTA: supported where the "
            f"interval lies above 0, contradicted where at or below. {left_out} {BY_IMAGE}",
            maps,
            no_data,
            _attention_changes_maps,
        ),
        check_claim(
            "With attention the maps are more concentrated.",
            source,
            "The share of the image on which a map is above half of its range, DELTA minus each other network: "
            "supported where all intervals lie below 0, contradicted where one lies at or above 0. "
            f"{left_out} {BY_IMAGE}",
            maps,
            no_data,
            _maps_are_concentrated,
        ),
    ]


def _most_filters_are_farther(rows: pd.DataFrame) -> Outcome:
    whole = rows[rows["stage"] == "all"]
    verdict, text = judge_sample(whole["share"], Rule(*paper.FARTHER_FILTERS_RANGE), "seed", digits=2)
    return verdict, f"{text} % of {whole['filters'].iloc[0]:,} filters"


def _a_few_are_very_far(rows: pd.DataFrame) -> Outcome:
    stages = rows[rows["stage"] != "all"].groupby("stage", sort=False)["reach"]
    if any(values.isna().any() for _, values in stages):
        return "half of a stage's filters did not move"
    parts = [(stage, judge_sample(values, Rule(above=VERY_FAR), "seed", digits=2)) for stage, values in stages]
    return all_of([(verdict, f"{stage} {text}") for stage, (verdict, text) in parts])


def _highest_at_the_parts(rows: pd.DataFrame) -> Outcome:
    if missing := missing_methods(rows["method"], *paper.INTERPRETED_METHODS):
        return missing
    others = rows[rows["method"] != "delta"]
    if others["difference"].isna().any():
        return "DELTA has no seed in common with another network"
    return all_of(
        [
            (
                MORE.judge(_interval(row)),
                f"minus {network_label(row['method'])} {describe(_interval(row), int(row['pairs']), 'seed', digits=3)}",
            )
            for _, row in others.iterrows()
        ]
    )


def _more_detectors(rows: pd.DataFrame) -> Outcome:
    if missing := _missing_detectors(rows):
        return missing
    return MORE.judge(_interval(_minus_l2_sp(rows, "sum"))), _against(rows, ["sum"])


def _more_of_most_kinds(rows: pd.DataFrame) -> Outcome:
    if missing := _missing_detectors(rows):
        return missing
    found = [MORE.judge(_interval(_minus_l2_sp(rows, kind))) for kind in paper.DETECTED_MORE]
    if found.count(Verdict.SUPPORTED) >= LEAST_KINDS:
        verdict = Verdict.SUPPORTED
    elif found.count(Verdict.CONTRADICTED) > len(found) - LEAST_KINDS:
        verdict = Verdict.CONTRADICTED
    else:
        verdict = Verdict.NOT_SETTLED
    return verdict, _against(rows, paper.DETECTED_MORE)


def _comparable_textures(rows: pd.DataFrame) -> Outcome:
    if missing := _missing_detectors(rows):
        return missing
    delta, l2_sp = (_mean(rows, method, "textures") for method in ("delta", "l2_sp"))
    if delta == l2_sp == 0:
        return "neither network detects a texture"
    limit = paper.COMPARABLE_TEXTURES * l2_sp
    return Rule(-limit, limit).judge(_interval(_minus_l2_sp(rows, "textures"))), _against(rows, ["textures"])


def _missing_detectors(rows: pd.DataFrame) -> str:
    if missing := missing_methods(rows["method"], "delta", "l2_sp"):
        return missing
    return "DELTA and L2-SP have no seed in common" if pd.isna(_minus_l2_sp(rows, "sum")["difference"]) else ""


def _minus_l2_sp(rows: pd.DataFrame, metric: str) -> pd.Series:
    return rows[(rows["method"] == "l2_sp") & (rows["metric"] == metric)].iloc[0]


def _mean(rows: pd.DataFrame, method: str, metric: str) -> float:
    return float(rows[(rows["method"] == method) & (rows["metric"] == metric)]["mean"].iloc[0])


def _against(rows: pd.DataFrame, metrics: Sequence[str]) -> str:
    """DELTA's counts against L2-SP's, and their difference with its interval."""
    parts = []
    for metric in metrics:
        delta, l2_sp = (_number(_mean(rows, method, metric)) for method in ("delta", "l2_sp"))
        row = _minus_l2_sp(rows, metric)
        name = "" if len(metrics) == 1 else f"{metric} "
        parts.append(f"{name}{delta} against {l2_sp}, {describe(_interval(row), int(row['pairs']), 'seed')}")
    return "; ".join(parts)


def _number(mean: float) -> str:
    return format_count(mean, float("nan")) if mean == round(mean) else f"{mean:.1f}"


def _interval(row: pd.Series) -> Interval:
    return Interval(row["difference"], row["low"], row["high"], float("nan"))


def _maps_are_similar(rows: pd.DataFrame) -> Outcome:
    if missing := missing_methods(rows["method"], "delta_wo_att", "delta"):
        return missing
    found = image_correlations(rows)
    if found.empty:
        return NO_CONTRAST
    verdict, text = judge_sample(found["delta_wo_att"], Rule(above=SIMILAR), "image", digits=2)
    return verdict, f"correlation {text}"


def _attention_changes_maps(rows: pd.DataFrame) -> Outcome:
    if missing := missing_methods(rows["method"], "delta_wo_att", "delta"):
        return missing
    found = image_correlations(rows)
    if found.empty:
        return NO_CONTRAST
    verdict, text = judge_sample(found["delta_wo_att"] - found["delta"], MORE, "image", digits=2)
    means = ", ".join(f"{network_label(method)} {format_correlation(value)}" for method, value in found.mean().items())
    return verdict, f"{means}: {text}"


def _maps_are_concentrated(rows: pd.DataFrame) -> Outcome:
    if missing := missing_methods(rows["method"], *paper.INTERPRETED_METHODS):
        return missing
    areas, left_out = image_areas(rows[rows["method"].isin(paper.INTERPRETED_METHODS)])
    if areas.empty:
        return "no filter's map has contrast in all five networks"
    parts = []
    for other in areas.columns.drop("delta"):
        verdict, text = judge_sample(areas["delta"] - areas[other], LESS, "image")
        parts.append((verdict, f"minus {network_label(other)} {text}"))
    verdict, text = all_of(parts)
    return verdict, f"DELTA {areas['delta'].mean():.1f} % {text}{left_out}"
