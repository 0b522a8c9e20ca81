"""The verdict on a claim of the paper: supported, contradicted or not settled, from confidence intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf, isnan
from typing import TypeAlias

import pandas as pd

from delta.report.names import display, label
from delta.report.statistics import LEAST_SEEDS, Interval, format_difference, seed_interval

MARGIN = 0.5  # percentage points by which accuracies may differ and still count as equal


class Verdict(StrEnum):
    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    NOT_SETTLED = "not settled"


Outcome: TypeAlias = tuple[Verdict, str] | str  # a verdict and the numbers, or why there is none


@dataclass(frozen=True)
class Rule:
    """What a claim says of a number: that it lies between `above` and `below`, and on neither."""

    above: float = -inf
    below: float = inf

    def judge(self, interval: Interval) -> Verdict:
        """Supported if the whole interval agrees, contradicted if all of it disagrees; not settled without one."""
        if isnan(interval.low):
            return Verdict.NOT_SETTLED
        if interval.low > self.above and interval.high < self.below:
            return Verdict.SUPPORTED
        if interval.high <= self.above or interval.low >= self.below:
            return Verdict.CONTRADICTED
        return Verdict.NOT_SETTLED


MORE = Rule(above=0)
LESS = Rule(below=0)
NO_GAIN = Rule(below=MARGIN)


@dataclass(frozen=True)
class Finding:
    """The verdict on one data set with one backbone, and its numbers."""

    dataset: str
    backbone: str
    verdict: Verdict
    evidence: str


@dataclass(frozen=True)
class Tally:
    """How many verdicts of each kind there are."""

    supported: int
    contradicted: int
    total: int

    @classmethod
    def of(cls, verdicts: Iterable[Verdict]) -> Tally:
        found = list(verdicts)
        return cls(found.count(Verdict.SUPPORTED), found.count(Verdict.CONTRADICTED), len(found))

    def __str__(self) -> str:
        """Such as "10 of 12 supported, 1 contradicted"."""
        contradicted = f", {self.contradicted} contradicted" if self.contradicted else ""
        return f"{self.supported} of {self.total} supported{contradicted}"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper with what was found.

    Attributes:
        text: the claim, a sentence.
        source: where the paper makes it.
        rule: how it is judged here, in sentences.
        findings: one for each data set and backbone that it could be judged on.
        missing: why it could not be judged on the others; empty if there are none.
        paper: the same rule's verdicts on the paper's own tables; None where it has none.
        by_values: whether the paper's are judged by its values alone, as it prints no deviation.
        somewhere: the claim is that there are data sets on which it is so.
    """

    text: str
    source: str
    rule: str
    findings: tuple[Finding, ...]
    missing: str
    paper: Tally | None = None
    by_values: bool = False
    somewhere: bool = False

    @property
    def tally(self) -> Tally:
        return Tally.of(finding.verdict for finding in self.findings)

    @property
    def verdict(self) -> Verdict | None:
        """The verdict over all data sets and backbones, see `aggregation`; None if it was judged on none."""
        if not self.findings:
            return None
        ours, theirs = self.tally, self.paper or Tally(1, 0, 1)
        if self.somewhere:
            if ours.supported:
                return Verdict.SUPPORTED
            everywhere = ours.contradicted == ours.total >= theirs.total
            return Verdict.CONTRADICTED if everywhere else Verdict.NOT_SETTLED
        more_contradicted = ours.contradicted * theirs.total > theirs.contradicted * ours.total
        if ours.supported and not more_contradicted:
            as_many = ours.supported * theirs.total >= theirs.supported * ours.total
            return Verdict.SUPPORTED if as_many else Verdict.NOT_SETTLED
        if more_contradicted and ours.contradicted >= ours.supported:
            return Verdict.CONTRADICTED
        return Verdict.NOT_SETTLED

    @property
    def aggregation(self) -> str:
        """How the verdict follows from several findings."""
        if self.somewhere:
            return SOMEWHERE
        return WHOLE if self.paper else UNPUBLISHED

    @property
    def paper_count(self) -> str:
        """The verdicts on the paper's own tables, such as "10 of 12 supported"; empty where it has none."""
        if self.paper is None:
            return ""
        return f"{self.paper}{', by its values alone' if self.by_values else ''}"


WHOLE = (
    "Over several data sets and backbones it is supported where the share of those that support it is at least the "
    "paper's and the share of those that contradict it is not above the paper's; contradicted where the latter is "
    "above the paper's and at least as many contradict it as support it; else not settled."
)
UNPUBLISHED = (
    "Over several data sets and backbones it is supported where all support it; contradicted where some contradict it "
    "and no fewer than support it; else not settled."
)
SOMEWHERE = (
    "One data set that supports it is enough; it is contradicted where all contradict it and they are as many as the "
    "paper's; else not settled."
)


def check_claim(
    text: str,
    source: str,
    rule: str,
    frame: pd.DataFrame | None,
    no_data: str,
    check_pair: Callable[[pd.DataFrame], Outcome],
    published: pd.DataFrame | None = None,
    by_values: bool = False,
    somewhere: bool = False,
) -> Claim:
    """Judge a claim on each data set and backbone, and on the paper's own.

    Args:
        text, source, rule, by_values, somewhere: see `Claim`.
        frame: rows of all data sets and backbones.
        no_data: what is missing if there are no rows at all.
        check_pair: takes the rows of one data set and backbone.
        published: the same rows of the paper's; None where it has none.
    """
    theirs = None
    if published is not None:
        outcomes = [check_pair(rows) for _, rows in published.groupby(["dataset", "backbone"], sort=False)]
        theirs = Tally.of(outcome[0] for outcome in outcomes if not isinstance(outcome, str))
    findings, reasons = [], {}
    for pair, rows in () if is_empty(frame) else frame.groupby(["dataset", "backbone"], sort=False):
        outcome = check_pair(rows)
        if isinstance(outcome, str):
            reasons[pair] = outcome
        else:
            findings.append(Finding(*pair, *outcome))
    if is_empty(frame):
        missing = no_data
    elif not findings and len(set(reasons.values())) == 1:
        missing = next(iter(reasons.values()))
    else:
        missing = "; ".join(f"{display(pair[0])}, {display(pair[1])}: {reason}" for pair, reason in reasons.items())
    return Claim(text, source, rule, tuple(findings), missing, theirs, by_values, somewhere)


def not_judged(text: str, source: str, why: str) -> Claim:
    """A claim that nothing in the pipeline's outputs can judge."""
    return Claim(text, source, "Nothing in the pipeline's outputs can judge it.", (), why)


def all_of(parts: Sequence[tuple[Verdict, str]]) -> tuple[Verdict, str]:
    """Supported if all parts are, contradicted if any is; their numbers one after the other."""
    verdicts, texts = zip(*parts, strict=True)
    return combined(verdicts), ", ".join(texts)


def combined(verdicts: Sequence[Verdict]) -> Verdict:
    """Supported if all are, contradicted if any is."""
    if Verdict.CONTRADICTED in verdicts:
        return Verdict.CONTRADICTED
    return Verdict.NOT_SETTLED if Verdict.NOT_SETTLED in verdicts else Verdict.SUPPORTED


def judge_sample(values: Sequence[float], rule: Rule, of: str, digits: int = 1) -> tuple[Verdict, str]:
    """Judge the mean of a sample by Student's interval.

    Args:
        values: one per seed, image or fold.
        of: what they are one of, such as "seed".
        digits: decimals of the numbers in the evidence.
    """
    interval = seed_interval(values)
    return rule.judge(interval), describe(interval, len(values), of, digits)


def describe(interval: Interval, size: int, of: str, digits: int = 1) -> str:
    """A number with its interval, or with the reason why it has none.

    Args:
        size: of the sample.
        of: what its members are, such as "seed".
        digits: decimals; with one, the numbers are differences in percentage points and keep their sign.
    """

    def text(number: float) -> str:
        return format_difference(number) if digits == 1 else f"{number:z.{digits}f}".replace("-", "−")

    if isnan(interval.low):
        return f"{text(interval.difference)} ({no_interval(size, of)})"
    return f"{text(interval.difference)} [{text(interval.low)}, {text(interval.high)}]"


def no_interval(size: int, of: str) -> str:
    """Why a sample gives no interval."""
    if size < LEAST_SEEDS:
        return f"{('no', 'one', 'two')[size]} {of}{'' if size == 1 else 's'} give{'s' if size == 1 else ''} no interval"
    return f"the {of}s do not differ, which gives no interval"


def missing_methods(present: Iterable[str], *needed: str) -> str:
    """A clause that names the methods which are not present; empty if all are."""
    absent = [label(method) for method in needed if method not in set(present)]
    return f"no {' and no '.join(absent)} in this run" if absent else ""


def is_empty(frame: pd.DataFrame | None) -> bool:
    return frame is None or frame.empty
