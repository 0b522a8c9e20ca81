"""The three verdicts: of one interval, of one claim on several data sets, and beside the paper's own count."""

from __future__ import annotations

import pandas as pd
import pytest

from delta.report.statistics import Interval
from delta.report.verdicts import (
    LESS,
    MARGIN,
    MORE,
    NO_GAIN,
    Claim,
    Finding,
    Rule,
    Tally,
    Verdict,
    all_of,
    check_claim,
    judge_sample,
)

NAN = float("nan")
SUPPORTED, CONTRADICTED, NOT_SETTLED = Verdict
AT_LEAST, UNMOVED = Rule(above=-MARGIN), Rule(-1, 1)


def between(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, NAN)


@pytest.mark.parametrize(
    ("rule", "low", "high", "verdict"),
    [
        (MORE, 0.1, 2, SUPPORTED),
        (MORE, -0.1, 2, NOT_SETTLED),
        (MORE, 0, 2, NOT_SETTLED),  # a tie is no win
        (MORE, -2, 0, CONTRADICTED),
        (MORE, -2, -0.1, CONTRADICTED),
        (MORE, 0, 0, CONTRADICTED),
        (LESS, -2, -0.1, SUPPORTED),
        (LESS, -2, 0.1, NOT_SETTLED),
        (LESS, 0, 2, CONTRADICTED),
        (AT_LEAST, -0.4, 2, SUPPORTED),
        (AT_LEAST, -0.5, 2, NOT_SETTLED),
        (AT_LEAST, -0.6, 2, NOT_SETTLED),
        (AT_LEAST, -2, -0.5, CONTRADICTED),
        (NO_GAIN, -2, 0.4, SUPPORTED),
        (NO_GAIN, -2, 0.6, NOT_SETTLED),
        (NO_GAIN, 0.5, 2, CONTRADICTED),
        (UNMOVED, -0.9, 0.9, SUPPORTED),
        (UNMOVED, -1.1, 0.9, NOT_SETTLED),
        (UNMOVED, -2, 2, NOT_SETTLED),
        (UNMOVED, 1, 3, CONTRADICTED),
        (UNMOVED, -3, -1.5, CONTRADICTED),
        (MORE, NAN, NAN, NOT_SETTLED),
        (UNMOVED, NAN, NAN, NOT_SETTLED),
    ],
)
def test_an_interval_is_judged(rule, low, high, verdict):
    assert rule.judge(between(low, high)) is verdict


def test_the_margin_is_half_a_point():
    assert MARGIN == 0.5


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([SUPPORTED, SUPPORTED], SUPPORTED),
        ([SUPPORTED, NOT_SETTLED], NOT_SETTLED),
        ([NOT_SETTLED, CONTRADICTED, SUPPORTED], CONTRADICTED),
    ],
)
def test_a_claim_of_several_parts_needs_all_of_them(parts, whole):
    texts = [f"part {number}" for number in range(len(parts))]
    assert all_of(list(zip(parts, texts, strict=True))) == (whole, ", ".join(texts))


def test_a_sample_is_judged_by_students_interval():
    # Mean 3, deviation 1, t(0.975, 2) = 4.3027: 3 ± 2.484.
    assert judge_sample([2, 3, 4], MORE, "seed") == (SUPPORTED, "+3.0 [+0.5, +5.5]")
    assert judge_sample([2, 3, 4], Rule(above=1), "seed") == (NOT_SETTLED, "+3.0 [+0.5, +5.5]")
    assert judge_sample([2, 3, 4], Rule(above=6), "seed", digits=2) == (CONTRADICTED, "3.00 [0.52, 5.48]")
    assert judge_sample([-0.2, -0.3, -0.4], MORE, "image", digits=2) == (CONTRADICTED, "−0.30 [−0.55, −0.05]")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([5.0], "+5.0 (one image gives no interval)"),
        ([5.0, 6.0], "+5.5 (two images give no interval)"),
        ([5.0, 5.0, 5.0], "+5.0 (the images do not differ, which gives no interval)"),
    ],
)
def test_without_an_interval_nothing_is_settled_and_the_reason_is_named(values, text):
    assert judge_sample(values, MORE, "image") == (NOT_SETTLED, text)


def claim(counts: str, paper: Tally | None = None, somewhere: bool = False) -> Claim:
    """A claim with a finding for each letter: supported, contradicted or not settled."""
    kinds = {"s": SUPPORTED, "c": CONTRADICTED, "n": NOT_SETTLED}
    findings = tuple(Finding("d", "b", kinds[letter], "") for letter in counts)
    return Claim("", "", "", findings, "", paper, somewhere=somewhere)


PAPER = Tally(8, 2, 12)  # two thirds support it, a sixth contradicts it


@pytest.mark.parametrize(
    ("counts", "paper", "verdict"),
    [
        ("s", PAPER, SUPPORTED),
        ("c", PAPER, CONTRADICTED),
        ("n", PAPER, NOT_SETTLED),
        ("ssn", PAPER, SUPPORTED),
        ("snn", PAPER, NOT_SETTLED),  # a third is less than the paper's share
        ("ssc", PAPER, NOT_SETTLED),  # a third contradicts it, but fewer than support it
        ("sc", PAPER, CONTRADICTED),
        ("s" * 8 + "ccnn", PAPER, SUPPORTED),  # the paper's own tables
        ("s" * 8 + "cccn", PAPER, NOT_SETTLED),
        ("s" * 10 + "cc", PAPER, SUPPORTED),
        ("cn", PAPER, CONTRADICTED),
        ("", PAPER, None),
        # Without a table of the paper, all have to support it.
        ("sss", None, SUPPORTED),
        ("ssn", None, NOT_SETTLED),
        ("ssc", None, NOT_SETTLED),
        ("scc", None, CONTRADICTED),
        # A rule that supports nothing in the paper supports nothing here, either.
        ("nn", Tally(0, 0, 12), NOT_SETTLED),
    ],
)
def test_several_data_sets_are_judged_by_the_papers_shares(counts, paper, verdict):
    assert claim(counts, paper).verdict is verdict


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ("s", SUPPORTED),
        ("cccs", SUPPORTED),
        ("n", NOT_SETTLED),
        ("c", NOT_SETTLED),  # one data set cannot contradict that there are some
        ("c" * 11, NOT_SETTLED),
        ("c" * 12, CONTRADICTED),
        ("c" * 12 + "n", NOT_SETTLED),
        ("", None),
    ],
)
def test_somewhere_is_supported_by_one_and_contradicted_by_as_many_as_the_papers(counts, verdict):
    assert claim(counts, Tally(2, 10, 12), somewhere=True).verdict is verdict


def test_counts_in_words():
    assert str(Tally.of([SUPPORTED, CONTRADICTED, NOT_SETTLED])) == "1 of 3 supported, 1 contradicted"
    assert claim("s", Tally(12, 0, 12)).paper_count == "12 of 12 supported"
    assert Claim("", "", "", (), "", Tally(4, 0, 4), by_values=True).paper_count == (
        "4 of 4 supported, by its values alone"
    )
    assert claim("s").paper_count == ""


def test_the_paper_is_judged_by_the_same_check():
    frame = pd.DataFrame([("a", "x", 1), ("b", "x", -1), ("c", "x", 0)], columns=["dataset", "backbone", "value"])

    def check(rows: pd.DataFrame):
        value = rows["value"].iloc[0]
        return (MORE.judge(between(value, value)), f"{value}") if value else "nothing there"

    found = check_claim("", "", "", frame, "no data", check, published=frame[frame["value"] != 0])
    assert [(finding.dataset, finding.verdict) for finding in found.findings] == [("a", SUPPORTED), ("b", CONTRADICTED)]
    assert found.missing == "c, x: nothing there"
    assert found.paper == Tally(1, 1, 2)
    assert check_claim("", "", "", None, "no data", check).missing == "no data"
    assert check_claim("", "", "", frame[2:], "no data", check).missing == "nothing there"
