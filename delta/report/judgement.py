"""A claim, whether it holds, and the numbers that say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import pandas as pd

from delta.report.names import display, label

Judgement: TypeAlias = tuple[bool, str] | str  # whether the claim holds and the numbers, or what is missing


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds on one data set with one backbone, and the numbers that say so."""

    dataset: str
    backbone: str
    holds: bool
    evidence: str


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and what the run says of it.

    Attributes:
        text: the claim, a sentence.
        source: where the paper makes it.
        rule: how it is judged here, a sentence.
        verdicts: one for each data set and backbone that the run can judge it on.
        missing: what the run lacks to judge it on the others; empty where it lacks nothing.
    """

    text: str
    source: str
    rule: str
    verdicts: tuple[Verdict, ...]
    missing: str

    @property
    def judged(self) -> bool:
        return bool(self.verdicts)

    @property
    def holds(self) -> bool:
        """Whether it holds wherever it was judged; False where nothing was."""
        return self.judged and all(verdict.holds for verdict in self.verdicts)

    @property
    def count(self) -> str:
        if not self.judged:
            return "not judged"
        return f"holds in {sum(verdict.holds for verdict in self.verdicts)} of {len(self.verdicts)}"


def judged(
    text: str,
    source: str,
    rule: str,
    frame: pd.DataFrame | None,
    nothing: str,
    judge_pair: Callable[[pd.DataFrame], Judgement],
) -> Claim:
    """Judge the rows of each data set and backbone; `nothing` is what is missing where there are no rows at all."""
    if empty(frame):
        return Claim(text, source, rule, (), nothing)
    verdicts, reasons = [], {}
    for pair, rows in frame.groupby(["dataset", "backbone"], sort=False):
        judgement = judge_pair(rows)
        if isinstance(judgement, str):
            reasons[pair] = judgement
        else:
            verdicts.append(Verdict(*pair, *judgement))
    if not verdicts and len(set(reasons.values())) == 1:
        missing = next(iter(reasons.values()))
    else:
        missing = "; ".join(f"{display(pair[0])}, {display(pair[1])}: {reason}" for pair, reason in reasons.items())
    return Claim(text, source, rule, tuple(verdicts), missing)


def lacking(there: pd.Index, *needed: str) -> str:
    """A sentence's start that names the methods which are not there; empty where all are."""
    absent = [label(method) for method in needed if method not in there]
    return f"no {' and no '.join(absent)} in this run" if absent else ""


def empty(frame: pd.DataFrame | None) -> bool:
    return frame is None or frame.empty
