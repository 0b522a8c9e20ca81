"""A claim of the paper, and whether a run supports it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import pandas as pd

from delta.report.names import display, label

Outcome: TypeAlias = tuple[bool, str] | str  # whether the claim holds and the numbers, or why it cannot be checked


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds on one data set with one backbone, and the numbers."""

    dataset: str
    backbone: str
    holds: bool
    evidence: str


@dataclass(frozen=True)
class Claim:
    """A claim of the paper with its verdicts.

    Attributes:
        text: the claim, a sentence.
        source: where the paper makes it.
        rule: how it is checked here, a sentence.
        verdicts: one for each data set and backbone that it could be checked on.
        missing: why it could not be checked on the others; empty if there are none.
    """

    text: str
    source: str
    rule: str
    verdicts: tuple[Verdict, ...]
    missing: str

    @property
    def checked(self) -> bool:
        return bool(self.verdicts)

    @property
    def holds(self) -> bool:
        """Whether it holds wherever it was checked; False if it was checked nowhere."""
        return self.checked and all(verdict.holds for verdict in self.verdicts)

    @property
    def count(self) -> str:
        if not self.checked:
            return "not judged"
        return f"holds in {sum(verdict.holds for verdict in self.verdicts)} of {len(self.verdicts)}"


def check_claim(
    text: str,
    source: str,
    rule: str,
    frame: pd.DataFrame | None,
    no_data: str,
    check_pair: Callable[[pd.DataFrame], Outcome],
) -> Claim:
    """Check a claim on each data set and backbone.

    Args:
        text, source, rule: see `Claim`.
        frame: rows of all data sets and backbones.
        no_data: what is missing if there are no rows at all.
        check_pair: takes the rows of one data set and backbone.
    """
    if is_empty(frame):
        return Claim(text, source, rule, (), no_data)
    verdicts, reasons = [], {}
    for pair, rows in frame.groupby(["dataset", "backbone"], sort=False):
        outcome = check_pair(rows)
        if isinstance(outcome, str):
            reasons[pair] = outcome
        else:
            verdicts.append(Verdict(*pair, *outcome))
    if not verdicts and len(set(reasons.values())) == 1:
        missing = next(iter(reasons.values()))
    else:
        missing = "; ".join(f"{display(pair[0])}, {display(pair[1])}: {reason}" for pair, reason in reasons.items())
    return Claim(text, source, rule, tuple(verdicts), missing)


def missing_methods(present: pd.Index, *needed: str) -> str:
    """A clause that names the methods which are not present; empty if all are."""
    absent = [label(method) for method in needed if method not in present]
    return f"no {' and no '.join(absent)} in this run" if absent else ""


def is_empty(frame: pd.DataFrame | None) -> bool:
    return frame is None or frame.empty
