"""The claims of the abstract and of section 4.3 on accuracy: Tables 1 and 2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd

from delta.report import paper
from delta.report.differences import (
    IMPROVED_VIEW,
    SIGNIFICANT,
    find,
    interval_of,
    is_significant,
    published_differences,
)
from delta.report.names import label
from delta.report.statistics import format_interval
from delta.report.verdicts import (
    MARGIN,
    MORE,
    NO_GAIN,
    Claim,
    Outcome,
    Rule,
    Verdict,
    all_of,
    check_claim,
    is_empty,
    missing_methods,
    no_interval,
)

INTERVAL = "95 % confidence interval of the difference, paired by test image and seed and covering both,"
ABOVE = f"Supported where the {INTERVAL} lies above 0, contradicted where it lies at or below 0, else not settled."
NOT_ABOVE = (
    f"Supported where the {INTERVAL} lies below +{MARGIN:g} points, contradicted where it lies at or above that, else "
    "not settled."
)
PAPERS_METHODS = set(paper.numbers(1)["method"])
OUTPERFORMED = ("l2", "l2_sp", "delta_wo_att")


def accuracy_claims(differences: pd.DataFrame | None) -> list[Claim]:
    """The claims on Tables 1 and 2.

    Args:
        differences: `reports/tables/differences.csv`.
    """
    published = published_differences()

    def table(name: str, rows: pd.DataFrame | None) -> pd.DataFrame | None:
        return None if is_empty(rows) else rows[rows["comparison"] == name]

    def claim(comparison: str, text: str, source: str, rule: str, check: Callable[..., Outcome], **more: Any) -> Claim:
        no_data = "no two methods in this run" if comparison == "table1" else "no data set here has the improved view"
        theirs = table(comparison, published)
        return check_claim(text, source, rule, table(comparison, differences), no_data, check, theirs, **more)

    def pair(text: str, source: str, method: str, other: str, rule: Rule, **more: Any) -> Claim:
        check = partial(compare, comparison="table1", method=method, others=[other], rule=rule)
        return claim("table1", text, source, ABOVE if rule is MORE else NOT_ABOVE, check, **more)

    table1 = "Section 4.3, Table 1"
    return [
        pair("DELTA is more accurate than L2-SP.", "Abstract, Table 1", "delta", "l2_sp", MORE),
        pair("DELTA is more accurate than L2.", "Abstract, Table 1", "delta", "l2", MORE),
        claim(
            "table1",
            "DELTA significantly outperforms L2, L2-SP and distillation without attention, DELTA(w/o ATT).",
            "Section 1.3 and conclusion, Table 1",
            f"Supported where all three differences are positive and significant, p < {SIGNIFICANT:g} after Holm's "
            "correction over all differences of Table 1 on that data set and backbone; contradicted where one is "
            "negative and significant; else not settled.",
            _outperforms_significantly,
        ),
        claim(
            "table1",
            "DELTA is the most accurate of all methods.",
            table1,
            f"Each other method of the paper is compared. {ABOVE} All have to be supported; one that is contradicted "
            "is enough.",
            partial(_best, comparison="table1"),
        ),
        pair(
            "Attention helps: DELTA is more accurate than DELTA(w/o ATT).",
            table1,
            "delta",
            "delta_wo_att",
            MORE,
        ),
        pair(
            "Attention on weights does not help: L2-SP(ATT) is not more accurate than L2-SP.",
            table1,
            "l2_sp_att",
            "l2_sp",
            NO_GAIN,
        ),
        pair(
            "Without attention there is no significant improvement: DELTA(w/o ATT) is not more accurate than L2-SP.",
            "Section 4.4, Table 1",
            "delta_wo_att",
            "l2_sp",
            NO_GAIN,
        ),
        pair("L2-SP is more accurate than L2.", table1, "l2_sp", "l2", MORE),
        pair("L2-SP is more accurate than L2-FE.", table1, "l2_sp", "l2_fe", MORE),
        pair(
            "On some data sets L2 is not significantly better than L2-FE.",
            table1,
            "l2",
            "l2_fe",
            NO_GAIN,
            somewhere=True,
        ),
        claim(
            IMPROVED_VIEW,
            "With the improved view L2, L2-SP, L2-SP(ATT) and DELTA are all more accurate.",
            "Section 4.3, Table 2",
            f"Each of the four is compared with itself in Table 1. {ABOVE} All have to be supported; one that is "
            "contradicted is enough.",
            _all_improve,
        ),
        claim(
            "table2",
            "With the improved view DELTA is still the most accurate.",
            "Section 4.3, Table 2",
            f"Each other method of the paper is compared. {ABOVE} All have to be supported; one that is contradicted "
            "is enough.",
            partial(_best, comparison="table2"),
        ),
    ]


def compare(rows: pd.DataFrame, comparison: str, method: str, others: Sequence[str], rule: Rule) -> Outcome:
    """Judge the differences of a method and each of the others."""
    if missing := missing_methods(_methods(rows), method, *others):
        return missing
    parts = []
    for other in others:
        row = find(rows, comparison, method, other)
        if row is None:
            return f"{label(method)} and {label(other)} have no seed in common"
        parts.append((rule.judge(interval_of(row)), f"minus {row['other_label']} {_numbers(row)}"))
    verdict, text = all_of(parts)
    return verdict, f"{row['method_label']} {text}"


def _best(rows: pd.DataFrame, comparison: str) -> Outcome:
    methods = [method for method in _methods(rows) if method in PAPERS_METHODS]
    if missing := missing_methods(methods, "delta"):
        return missing
    return compare(rows, comparison, "delta", [method for method in methods if method != "delta"], MORE)


def _outperforms_significantly(rows: pd.DataFrame) -> Outcome:
    if missing := missing_methods(_methods(rows), "delta", *OUTPERFORMED):
        return missing
    parts = []
    for other in OUTPERFORMED:
        row = find(rows, "table1", "delta", other)
        if row is None:
            return f"DELTA and {label(other)} have no seed in common"
        parts.append((_significance(row), f"minus {row['other_label']} {_numbers(row)}{_p(row)}"))
    verdict, text = all_of(parts)
    return verdict, f"DELTA {text}"


def _significance(row: pd.Series) -> Verdict:
    if not is_significant(row):
        return Verdict.NOT_SETTLED
    return Verdict.SUPPORTED if row["difference"] > 0 else Verdict.CONTRADICTED


def _all_improve(rows: pd.DataFrame) -> Outcome:
    if missing := missing_methods(set(rows["method"]), *paper.IMPROVED_VIEW_METHODS):
        return missing
    found = rows.set_index("method").loc[list(paper.IMPROVED_VIEW_METHODS)]
    return all_of(
        [(MORE.judge(interval_of(row)), f"{row['method_label']} {_numbers(row)}") for _, row in found.iterrows()]
    )


def _numbers(row: pd.Series) -> str:
    """The difference with its interval, or the reason why it has none."""
    text = format_interval(row["difference"], row["low"], row["high"])
    return f"{text} ({no_interval(int(row['seeds']), 'seed')})" if pd.isna(row["low"]) else text


def _p(row: pd.Series) -> str:
    if pd.isna(row["p_holm"]):
        return ""
    return " p < 0.001" if row["p_holm"] < 0.001 else f" p = {row['p_holm']:.3f}"


def _methods(rows: pd.DataFrame) -> list[str]:
    """The methods that are compared, in the order of the tables."""
    return list(dict.fromkeys([*rows["other"], *rows["method"]]))
