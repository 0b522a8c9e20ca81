"""The paper's claims on synthetic results that make each of them supported, contradicted, not settled or not judged,
and on the paper's own tables."""

from __future__ import annotations

import csv
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import ttest_ind_from_stats

from delta.report import paper
from delta.report.claims import check_claims
from delta.report.differences import COLUMNS
from delta.report.names import label
from delta.report.seed_differences import delta_minus_others
from delta.report.statistics import format_difference
from delta.report.verdicts import Claim, Tally, Verdict
from tests.helpers.grids import with_values

NAN = float("nan")
SUPPORTED, CONTRADICTED, NOT_SETTLED = Verdict
METHODS = ["l2_fe", "l2", "l2_sp", "l2_sp_att", "delta_wo_att", "delta"]
IMPROVED = ["l2", "l2_sp", "l2_sp_att", "delta"]
(
    BEATS_L2_SP,
    BEATS_L2,
    SIGNIFICANTLY,
    BEST,
    ATTENTION,
    NOT_ON_WEIGHTS,
    NO_GAIN,
    START,
    BEATS_FROZEN,
    FROZEN_SOMEWHERE,
    IMPROVES,
    BEST_IMPROVED,
    STEP,
    EXPONENTIAL,
    SMOOTH,
    UNMOVED,
    BETA,
    GRID,
    GRID_BEST,
    FARTHER,
    VERY_FAR,
    PARTS,
    DETECTORS,
    KINDS,
    TEXTURES,
    SIMILAR,
    CHANGED,
    CONCENTRATED,
    *NEVER,
) = range(31)


def differences(
    means: dict[str, float], width: float = 0.4, comparison: str = "table1", dataset: str = "birds", seeds: int = 3
) -> pd.DataFrame:
    """All pairs' differences of means, each ± the width; p_holm is 0.01 where that excludes 0."""
    rows = []
    for other, method in combinations(means, 2):
        points = round(means[method] - means[other], 6)
        low, high = (points - width, points + width) if seeds > 2 else (NAN, NAN)
        p = NAN if seeds < 3 else 0.01 if low > 0 or high < 0 else 0.3
        keys = (dataset, "net", comparison, method, other, label(method), label(other))
        rows.append((*keys, points, low, high, p, p, seeds, 100))
    return pd.DataFrame(rows, columns=COLUMNS)


# As the paper says: DELTA is best, L2-SP(ATT) is below L2-SP, DELTA(w/o ATT) at L2-SP, L2 below L2-FE.
MEANS = {"l2_fe": 74.0, "l2": 73.0, "l2_sp": 76.0, "l2_sp_att": 75.0, "delta_wo_att": 76.0, "delta": 78.0}


def table1(width: float = 0.4, dataset: str = "birds", seeds: int = 3, **means: float) -> pd.DataFrame:
    return differences(MEANS | means, width, dataset=dataset, seeds=seeds)


def only(claim: Claim) -> tuple[Verdict, str]:
    (finding,) = claim.findings
    assert (finding.dataset, finding.backbone) == ("birds", "net")
    return finding.verdict, finding.evidence


def judged(number: int, **frames: pd.DataFrame) -> tuple[Verdict, str]:
    return only(check_claims(**frames)[number])


def test_there_are_31_claims_and_the_last_three_are_never_judged():
    claims = check_claims(table1())
    assert len(claims) == 31
    assert [claims[number].findings for number in NEVER] == [()] * 3
    assert all(claims[number].missing for number in NEVER)
    assert len({claim.text for claim in claims}) == 31
    assert all(claim.rule.endswith(".") and claim.text.endswith(".") for claim in claims)


def test_the_claims_of_table_1_are_supported():
    claims = check_claims(table1())
    assert [only(claims[number]) for number in range(IMPROVES)] == [
        (SUPPORTED, "DELTA minus L2-SP +2.0 [+1.6, +2.4]"),
        (SUPPORTED, "DELTA minus L2 +5.0 [+4.6, +5.4]"),
        (
            SUPPORTED,
            "DELTA minus L2 +5.0 [+4.6, +5.4] p = 0.010, minus L2-SP +2.0 [+1.6, +2.4] p = 0.010, "
            "minus DELTA(w/o ATT) +2.0 [+1.6, +2.4] p = 0.010",
        ),
        (
            SUPPORTED,
            "DELTA minus L2-FE +4.0 [+3.6, +4.4], minus L2 +5.0 [+4.6, +5.4], minus L2-SP +2.0 [+1.6, +2.4], "
            "minus L2-SP(ATT) +3.0 [+2.6, +3.4], minus DELTA(w/o ATT) +2.0 [+1.6, +2.4]",
        ),
        (SUPPORTED, "DELTA minus DELTA(w/o ATT) +2.0 [+1.6, +2.4]"),
        (SUPPORTED, "L2-SP(ATT) minus L2-SP −1.0 [−1.4, −0.6]"),
        (SUPPORTED, "DELTA(w/o ATT) minus L2-SP 0.0 [−0.4, +0.4]"),
        (SUPPORTED, "L2-SP minus L2 +3.0 [+2.6, +3.4]"),
        (SUPPORTED, "L2-SP minus L2-FE +2.0 [+1.6, +2.4]"),
        (SUPPORTED, "L2 minus L2-FE −1.0 [−1.4, −0.6]"),
    ]
    assert [claim.verdict for claim in claims[:IMPROVES]] == [SUPPORTED] * 10


@pytest.mark.parametrize(
    ("number", "means", "evidence"),
    [
        (BEATS_L2_SP, {"delta": 75.0}, "DELTA minus L2-SP −1.0 [−1.4, −0.6]"),
        (BEATS_L2, {"delta": 72.6}, "DELTA minus L2 −0.4 [−0.8, 0.0]"),
        (SIGNIFICANTLY, {"delta_wo_att": 79.0}, "DELTA minus L2 +5.0 [+4.6, +5.4] p = 0.010, minus L2-SP "),
        (BEST, {"l2_fe": 79.0}, "DELTA minus L2-FE −1.0 [−1.4, −0.6], minus L2 +5.0"),
        (ATTENTION, {"delta": 75.6}, "DELTA minus DELTA(w/o ATT) −0.4 [−0.8, 0.0]"),
        (NOT_ON_WEIGHTS, {"l2_sp_att": 76.9}, "L2-SP(ATT) minus L2-SP +0.9 [+0.5, +1.3]"),
        (NO_GAIN, {"delta_wo_att": 77.5}, "DELTA(w/o ATT) minus L2-SP +1.5 [+1.1, +1.9]"),
        (START, {"l2": 77.0}, "L2-SP minus L2 −1.0 [−1.4, −0.6]"),
        (BEATS_FROZEN, {"l2_fe": 77.0}, "L2-SP minus L2-FE −1.0 [−1.4, −0.6]"),
        (FROZEN_SOMEWHERE, {"l2": 75.0}, "L2 minus L2-FE +1.0 [+0.6, +1.4]"),
    ],
)
def test_each_claim_of_table_1_can_be_contradicted(number, means, evidence):
    claim = check_claims(table1(**means))[number]
    verdict, found = only(claim)
    assert verdict is CONTRADICTED
    assert found.startswith(evidence)
    # That there are some data sets cannot be contradicted on one.
    assert claim.verdict is (NOT_SETTLED if number == FROZEN_SOMEWHERE else CONTRADICTED)


@pytest.mark.parametrize("number", range(10))
def test_each_claim_of_table_1_can_be_open(number):
    """With intervals of ± 6 points nothing is settled."""
    claim = check_claims(table1(width=6))[number]
    assert only(claim)[0] is NOT_SETTLED
    assert claim.verdict is NOT_SETTLED


@pytest.mark.parametrize(
    ("number", "means"),
    [(BEATS_L2_SP, {"delta": 76.0}), (ATTENTION, {"delta": 76.0}), (START, {"l2": 76.0}), (BEST, {"l2": 78.0})],
)
def test_equal_means_are_no_win(number, means):
    assert judged(number, differences=table1(**means))[0] is NOT_SETTLED


def test_significance_needs_the_corrected_p():
    rows = table1()
    rows.loc[(rows["method"] == "delta") & (rows["other"] == "l2"), "p_holm"] = 0.0501
    assert judged(SIGNIFICANTLY, differences=rows)[0] is NOT_SETTLED
    rows.loc[(rows["method"] == "delta") & (rows["other"] == "l2"), "p_holm"] = 0.0004
    verdict, evidence = judged(SIGNIFICANTLY, differences=rows)
    assert verdict is SUPPORTED
    assert evidence.startswith("DELTA minus L2 +5.0 [+4.6, +5.4] p < 0.001")


@pytest.mark.parametrize(("seeds", "words"), [(1, "one seed gives"), (2, "two seeds give")])
def test_few_seeds_settle_nothing(seeds, words):
    claims = check_claims(table1(seeds=seeds))
    assert only(claims[BEATS_L2_SP]) == (NOT_SETTLED, f"DELTA minus L2-SP +2.0 ({words} no interval)")
    assert {only(claim)[0] for claim in claims[:IMPROVES]} == {NOT_SETTLED}


def test_several_data_sets_are_counted():
    rows = pd.concat([table1(), table1(dataset="dogs", delta=70.0), table1(dataset="cars", width=6)])
    claim = check_claims(rows)[BEATS_L2_SP]
    assert [(finding.dataset, finding.verdict) for finding in claim.findings] == [
        ("birds", SUPPORTED),
        ("dogs", CONTRADICTED),
        ("cars", NOT_SETTLED),
    ]
    assert claim.tally == Tally(1, 1, 3)
    assert claim.verdict is CONTRADICTED


def test_a_method_without_runs_is_named():
    rows = differences({key: MEANS[key] for key in ("l2_fe", "l2", "l2_sp")})
    claims = check_claims(rows)
    assert claims[BEATS_L2_SP].missing == claims[BEST].missing == "no DELTA in this run"
    assert claims[ATTENTION].missing == "no DELTA and no DELTA(w/o ATT) in this run"
    assert claims[SIGNIFICANTLY].missing == "no DELTA and no DELTA(w/o ATT) in this run"
    assert only(claims[START])[0] is SUPPORTED


def test_the_probe_judges_no_claim():
    """It is none of the paper's methods; here it is the most accurate."""
    with_probe = check_claims(differences({"probe": 90.0} | MEANS))
    found = [(claim.findings, claim.verdict, claim.missing) for claim in with_probe]
    assert found == [(claim.findings, claim.verdict, claim.missing) for claim in check_claims(table1())]
    improved = {key: MEANS[key] + 1 for key in IMPROVED}
    both = pd.concat([table1(), differences(improved | {"probe": 99.0}, comparison="table2")])
    assert only(check_claims(both)[BEST_IMPROVED])[0] is SUPPORTED


def test_a_pair_that_is_not_judged_is_named():
    dogs = differences({key: MEANS[key] for key in ("l2_sp", "delta")}, dataset="stanford_dogs_120")
    claim = check_claims(pd.concat([table1(), dogs]))[START]
    assert claim.tally == Tally(1, 0, 1)
    assert claim.missing == "Stanford Dogs 120, net: no L2 in this run"


@pytest.mark.parametrize("frame", [None, pd.DataFrame(columns=["dataset", "backbone"])])
def test_without_data_no_claim_is_judged(frame):
    claims = check_claims(frame, frame, frame, None, frame, frame, frame, frame)
    assert {claim.verdict for claim in claims} == {None}
    assert [claims[number].missing for number in (BEST, IMPROVES, BEST_IMPROVED, SMOOTH, BETA, FARTHER, PARTS)] == [
        "no two methods in this run",
        "no data set here has the improved view",
        "no data set here has the improved view",
        "no learning curves in this run",
        "no grid search for DELTA in this run",
        "no filter distances in this run",
        "no data set of this run has its part activation measured",
    ]
    assert {claims[number].missing for number in (DETECTORS, KINDS, TEXTURES)} == {
        "no data set of this run has its networks dissected"
    }
    assert {claims[number].missing for number in (SIMILAR, CHANGED, CONCENTRATED)} == {"no activation maps in this run"}


def improvement(**gains: float) -> pd.DataFrame:
    """Each method's gain by the improved view, 1 point ± 0.4 if not given."""
    rows = []
    for method in IMPROVED:
        gain = gains.get(method, 1.0)
        keys = ("birds", "net", "improved_view", method, method, label(method), label(method))
        rows.append((*keys, gain, gain - 0.4, gain + 0.4, 0.01, 0.01, 3, 100))
    return pd.DataFrame(rows, columns=COLUMNS)


def test_the_improved_view():
    assert judged(IMPROVES, differences=improvement()) == (
        SUPPORTED,
        "L2 +1.0 [+0.6, +1.4], L2-SP +1.0 [+0.6, +1.4], L2-SP(ATT) +1.0 [+0.6, +1.4], DELTA +1.0 [+0.6, +1.4]",
    )
    assert judged(IMPROVES, differences=improvement(l2_sp=0.0))[0] is NOT_SETTLED
    assert judged(IMPROVES, differences=improvement(l2_sp=-0.4))[0] is CONTRADICTED
    rows = improvement()
    fewer = check_claims(rows[rows["method"] != "l2_sp_att"])[IMPROVES]
    assert fewer.missing == "no L2-SP(ATT) in this run"


def test_delta_is_the_best_in_the_improved_view():
    means = {method: MEANS[method] for method in IMPROVED}
    verdict, evidence = judged(BEST_IMPROVED, differences=differences(means, comparison="table2"))
    assert verdict is SUPPORTED
    assert evidence == (
        "DELTA minus L2 +5.0 [+4.6, +5.4], minus L2-SP +2.0 [+1.6, +2.4], minus L2-SP(ATT) +3.0 [+2.6, +3.4]"
    )
    worse = differences(means | {"l2_sp_att": 79.0}, comparison="table2")
    assert judged(BEST_IMPROVED, differences=worse)[0] is CONTRADICTED
    # Table 1 says nothing about it.
    assert check_claims(table1())[BEST_IMPROVED].verdict is None


# The paper's own tables, judged by another test: Welch's, from SciPy, whose p is below 0.05 exactly where the 95 %
# interval excludes the value.
def published() -> dict[tuple[str, str, str, str], tuple[float, float]]:
    with Path(paper.__file__).with_name("paper.csv").open(encoding="utf-8") as lines:
        return {
            (line["table"], line["dataset"], line["backbone"], line["method"]): (
                float(line["mean"]),
                float(line["std"]),
            )
            for line in csv.DictReader(lines)
            if line["table"] in "12"
        }


NUMBERS = published()
PAIRS = sorted({key[1:3] for key in NUMBERS})


def welch(one: tuple[float, float], other: tuple[float, float], margin: float = 0.0) -> tuple[float, float]:
    """The difference above the margin, and p that it is 0."""
    test = ttest_ind_from_stats(one[0] - margin, one[1], 5, *other, 5, equal_var=False)
    return one[0] - margin - other[0], test.pvalue


def plain_verdict(difference: float, p: float, wants_above: bool = True) -> str:
    if p >= 0.05:
        return "open"
    return "yes" if (difference > 0) == wants_above else "no"


def merged(verdicts: list[str]) -> str:
    return "no" if "no" in verdicts else "open" if "open" in verdicts else "yes"


def plain_holm(p_values: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    adjusted, highest = {}, 0.0
    for rank, pair in enumerate(sorted(p_values, key=p_values.get)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[pair]))
        adjusted[pair] = highest
    return adjusted


def in_table(table: str, method: str, other: str, margin: float = 0.0, above: bool = True) -> Callable[..., str]:
    def of_pair(dataset: str, backbone: str) -> str:
        one, two = (NUMBERS[table, dataset, backbone, key] for key in (method, other))
        return plain_verdict(*welch(one, two, margin), above)

    return of_pair


def best_of(table: str, methods: list[str]) -> Callable[..., str]:
    def of_pair(*pair: str) -> str:
        return merged([in_table(table, "delta", other)(*pair) for other in methods if other != "delta"])

    return of_pair


def all_improve(*pair: str) -> str:
    return merged([plain_verdict(*welch(NUMBERS["2", *pair, key], NUMBERS["1", *pair, key])) for key in IMPROVED])


def significantly(*pair: str) -> str:
    tests = {
        (one, other): welch(NUMBERS["1", *pair, one], NUMBERS["1", *pair, other])
        for other, one in combinations(METHODS, 2)
    }
    adjusted = plain_holm({names: p for names, (_, p) in tests.items()})
    names = [("delta", other) for other in ("l2", "l2_sp", "delta_wo_att")]
    return merged([plain_verdict(tests[name][0], adjusted[name]) for name in names])


@pytest.mark.parametrize(
    ("number", "plain", "counts"),
    [
        (BEATS_L2_SP, in_table("1", "delta", "l2_sp"), (10, 1)),
        (BEATS_L2, in_table("1", "delta", "l2"), (11, 0)),
        (SIGNIFICANTLY, significantly, (9, 1)),
        (BEST, best_of("1", METHODS), (9, 1)),
        (ATTENTION, in_table("1", "delta", "delta_wo_att"), (10, 0)),
        (NOT_ON_WEIGHTS, in_table("1", "l2_sp_att", "l2_sp", 0.5, above=False), (10, 2)),
        (NO_GAIN, in_table("1", "delta_wo_att", "l2_sp", 0.5, above=False), (8, 1)),
        (START, in_table("1", "l2_sp", "l2"), (7, 2)),
        (BEATS_FROZEN, in_table("1", "l2_sp", "l2_fe"), (11, 0)),
        (FROZEN_SOMEWHERE, in_table("1", "l2", "l2_fe", 0.5, above=False), (2, 10)),
        (IMPROVES, all_improve, (6, 2)),
        (BEST_IMPROVED, best_of("2", IMPROVED), (12, 0)),
    ],
)
def test_the_papers_tables_are_judged_by_the_same_rules(number, plain, counts):
    found = [plain(*pair) for pair in PAIRS]
    assert (found.count("yes"), found.count("no"), len(found)) == (*counts, 12)
    assert check_claims()[number].paper == Tally(*counts, 12)


def curves(
    delta: list[list[float]], l2_sp: list[list[float]], schedule: str = "StepLR", epochs: list | None = None, drop=NAN
) -> pd.DataFrame:
    """Learning curves, one list a seed."""
    rows = []
    for method, seeds in {"l2_sp": l2_sp, "delta": delta}.items():
        for seed, top1 in enumerate(seeds):
            for epoch, value in zip(epochs or range(1, len(top1) + 1), top1, strict=True):
                rows.append(("birds", "net", method, schedule, seed, float(epoch), value, drop))
    columns = ["dataset", "backbone", "method", "schedule", "seed", "epoch", "top1", "drop_epoch"]
    return pd.DataFrame(rows, columns=columns)


FLAT = [[70.0, 70.0]] * 3


def test_the_area_weighs_a_shorter_epoch_by_its_length():
    # DELTA: (60 + 70)/2 over one epoch and (70 + 80)/2 over half an epoch, divided by 1.5: 68.33. The plain mean is 70.
    rows = curves([[60, 70, 80]], [[69, 69, 69]], epochs=[1, 2, 2.5])
    claims = check_claims(curves=rows)
    assert only(claims[STEP]) == (NOT_SETTLED, "DELTA 68.3, L2-SP 69.0: −0.7 (one seed gives no interval)")
    assert claims[EXPONENTIAL].missing == "no learning curves of both L2-SP and DELTA under ExponentialLR"


@pytest.mark.parametrize(
    ("delta", "verdict", "text"),
    [
        # Areas 72, 73 and 74 minus 70: 3 ± 4.3027 / √3.
        ([[72, 72], [72, 74], [74, 74]], SUPPORTED, "DELTA 73.0, L2-SP 70.0: +3.0 [+0.5, +5.5]"),
        ([[68, 68], [66, 68], [66, 66]], CONTRADICTED, "DELTA 67.0, L2-SP 70.0: −3.0 [−5.5, −0.5]"),
        ([[70, 70], [71, 71], [72, 72]], NOT_SETTLED, "DELTA 71.0, L2-SP 70.0: +1.0 [−1.5, +3.5]"),
    ],
)
@pytest.mark.parametrize(("schedule", "number"), [("StepLR", STEP), ("ExponentialLR", EXPONENTIAL)])
def test_convergence_is_judged_over_the_seeds(schedule, number, delta, verdict, text):
    assert judged(number, curves=curves(delta, FLAT, schedule)) == (verdict, text)


def test_seeds_of_one_method_alone_do_not_count():
    rows = curves([[72, 72], [73, 73], [74, 74], [99, 99]], FLAT)
    assert judged(STEP, curves=rows)[1] == "DELTA 73.0, L2-SP 70.0: +3.0 [+0.5, +5.5]"


def test_smoothness_is_the_second_difference_over_complete_epochs():
    # Second differences of DELTA: 0, −1, then 0, −2 and 0, −3; of L2-SP: −4, 4. The last point is not of a whole epoch.
    smooth = [[60, 62, 64, 65, 5], [60, 62, 64, 64, 5], [60, 62, 64, 63, 5]]
    rough = [[60, 64, 64, 68, 68]] * 3
    epochs = [1, 2, 3, 4, 4.4]
    found = curves(smooth, rough, epochs=epochs)
    # Roughness 0.5, 1 and 1.5 against 4: −3 ± 4.3027 · 0.5 / √3.
    assert judged(SMOOTH, curves=found) == (SUPPORTED, "StepLR DELTA 1.00, L2-SP 4.00: −3.00 [−4.24, −1.76]")
    turned = curves(rough, smooth, "ExponentialLR", epochs)
    verdict, text = judged(SMOOTH, curves=pd.concat([found, turned]))
    assert verdict is CONTRADICTED
    assert text.endswith(", ExponentialLR DELTA 4.00, L2-SP 1.00: 3.00 [1.76, 4.24]")
    same = curves(rough, rough, epochs=epochs)
    assert judged(SMOOTH, curves=same)[0] is NOT_SETTLED


def test_three_epochs_are_too_few_for_smoothness():
    claim = check_claims(curves=curves([[60, 62, 64]], [[60, 64, 64]]))[SMOOTH]
    assert claim.missing == "no schedule with learning curves of L2-SP and DELTA over four whole epochs"


@pytest.mark.parametrize(
    ("moves", "verdict", "text"),
    [
        # ± 4.3027 · 0.1 / √3 = 0.25
        ([0.1, 0.2, 0.3], SUPPORTED, "+0.2 [−0.05, +0.4]"),
        ([-0.1, -0.2, -0.3], SUPPORTED, "−0.2 [−0.4, +0.05]"),
        ([3.9, 4.0, 4.1], CONTRADICTED, "+4.0 [+3.8, +4.2]"),
        ([-3.9, -4.0, -4.1], CONTRADICTED, "−4.0 [−4.2, −3.8]"),
        ([-1.0, 0.0, 1.0], NOT_SETTLED, "0.0 [−2.5, +2.5]"),
    ],
)
def test_the_drop_of_the_learning_rate(moves, verdict, text):
    # The rate drops after epoch 2. What counts is the test there against the first one at least an epoch later.
    epochs = [1, 2, 2.5, 3, 4]
    delta = [[50, 70, 99, 70 + move, 99] for move in moves]
    l2_sp = [[50, 60, 99, 68 + seed, 99] for seed in range(3)]
    found = judged(UNMOVED, curves=curves(delta, l2_sp, epochs=epochs, drop=2))
    assert found == (verdict, f"DELTA {text}; L2-SP +9.0 [+6.5, +11.5]")


def test_without_a_test_on_both_sides_the_drop_is_not_judged():
    reason = "no learning curve of DELTA under StepLR with tests on both sides of the drop"
    for drop in (0.5, 2.0):
        claim = check_claims(curves=curves([[60, 61]] * 3, FLAT, drop=drop))[UNMOVED]
        assert (claim.verdict, claim.missing) == (None, reason)
    exponential = curves([[60, 61]] * 3, FLAT, "ExponentialLR")
    assert check_claims(curves=exponential)[UNMOVED].missing == reason


def grid(cells: dict[tuple[float, float], list[float]], dataset: str = "birds", backbone: str = "net") -> pd.DataFrame:
    rows = [
        (dataset, backbone, "delta", alpha, beta, fold, top1)
        for (alpha, beta), folds in cells.items()
        for fold, top1 in enumerate(folds)
    ]
    columns = ["dataset", "backbone", "method", "alpha", "beta", "fold", "top1"]
    return with_values(pd.DataFrame(rows, columns=columns))


@pytest.mark.parametrize(
    ("pair", "verdict", "text"),
    [
        ([86.0, 87.0, 88.0], SUPPORTED, "has 87.0; the best other is α = 0.1, β = 0.01 with 84.0: +3.0 [+0.5, +5.5]"),
        (
            [80.0, 81.0, 82.0],
            CONTRADICTED,
            "has 81.0; the best other is α = 0.1, β = 0.01 with 84.0: −3.0 [−5.5, −0.5]",
        ),
        ([84.0, 85.0, 86.0], NOT_SETTLED, "has 85.0; the best other is α = 0.1, β = 0.01 with 84.0: +1.0 [−1.5, +3.5]"),
        # All tied: none is best.
        (
            [84.0, 84.0, 84.0],
            NOT_SETTLED,
            "has 84.0; the best other is α = 0.1, β = 0.01 with 84.0: 0.0 (the folds do not differ, which gives no "
            "interval)",
        ),
        # A cell that diverged on one fold is not the best, whatever its other folds.
        ([99.0, 99.0, NAN], CONTRADICTED, "diverged; the best other is α = 0.1, β = 0.01 with 84.0"),
    ],
)
def test_the_papers_cell_of_the_grid(pair, verdict, text):
    cells = {(0.01, 0.01): pair, (0.1, 0.01): [84.0] * 3, (0.001, 0.01): [83.0] * 3, (0.2, 0.01): [99.0, 99.0, NAN]}
    for scale in (None, "sum"):
        assert judged(GRID, grid=grid(cells), scale=scale) == (verdict, f"α = β = 0.01 {text}")


def test_two_folds_settle_nothing():
    cells = {(0.01, 0.01): [88.0, 89.0], (0.1, 0.01): [84.0, 84.0]}
    verdict, text = judged(GRID, grid=grid(cells))
    assert verdict is NOT_SETTLED
    assert text.endswith(" with 84.0: +4.5 (two folds give no interval)")


@pytest.mark.parametrize(
    ("cells", "missing"),
    [
        ({(0.1, 0.01): [88.0]}, "the grid has no cell α = β = 0.01"),
        ({(0.01, 0.01): [88.0]}, "the grid has no other cell than α = β = 0.01"),
        ({(0.01, 0.01): [88.0], (0.1, 0.1): [NAN]}, "every other cell diverged"),
    ],
)
def test_a_grid_without_the_papers_cell_or_without_others_is_not_judged(cells, missing):
    assert check_claims(grid=grid(cells))[GRID].missing == missing


def test_alpha_on_another_scale_is_not_the_papers():
    cells = {(0.01, 0.01): [88.0] * 3, (0.1, 0.01): [84.0] * 3}
    claims = check_claims(grid=grid(cells, *paper.GRID_PAIR), scale="source")
    for number in (GRID, GRID_BEST):
        assert claims[number].missing == "with scale: source, α is not the paper's α"


def test_other_methods_grids_say_nothing_about_delta():
    rows = grid({(0.01, 0.01): [88.0] * 3, (0.1, 0.01): [84.0] * 3}).assign(method="l2_sp")
    assert check_claims(grid=rows)[GRID].missing == "no grid search for DELTA in this run"


@pytest.mark.parametrize(
    ("folds", "verdict", "text"),
    [
        ([88.5, 88.7, 88.9], SUPPORTED, "88.7 against 88.7: 0.0 [−0.5, +0.5]"),
        ([80.0, 81.0, 82.0], CONTRADICTED, "81.0 against 88.7: −7.7 [−10.2, −5.2]"),
        ([87.0, 88.0, 89.0], NOT_SETTLED, "88.0 against 88.7: −0.7 [−3.2, +1.8]"),
        ([87.0, 88.0, NAN], CONTRADICTED, "α = β = 0.01 diverged"),
    ],
)
def test_the_best_accuracy_is_judged_on_caltech_alone(folds, verdict, text):
    (finding,) = check_claims(grid=grid({(0.01, 0.01): folds}, *paper.GRID_PAIR))[GRID_BEST].findings
    assert (finding.verdict, finding.evidence) == (verdict, text)
    elsewhere = check_claims(grid=grid({(0.01, 0.01): folds}))[GRID_BEST]
    assert elsewhere.missing == "the paper's number is of Caltech 256-60 with ResNet-101"
    assert check_claims(grid=grid({(0.1, 0.01): folds}, *paper.GRID_PAIR))[GRID_BEST].missing.startswith(
        "the grid has no cell"
    )


def beta_grid(curve: list[float], *others: list[float], scatter: float = 0.1) -> pd.DataFrame:
    """Cells of β = 0.001, 0.01 and 0.1 for a few α: three folds around each mean, in another order for each β."""
    folds = [(-scatter, 0, scatter), (0, scatter, -scatter), (scatter, -scatter, 0)]
    cells = {}
    for alpha, means in zip((0.01, 0.1, 0.2), [curve, *others], strict=False):
        for beta, mean, shifts in zip((0.001, 0.01, 0.1), means, folds, strict=True):
            cells[alpha, beta] = [mean + shift for shift in shifts]
    return grid(cells)


RISES = [86.0, 88.0, 80.0]


@pytest.mark.parametrize(
    ("rows", "verdict", "text"),
    [
        (
            beta_grid(RISES, RISES),
            SUPPORTED,
            "mean over α 86.0 at β = 0.001, 88.0 at β = 0.01, 80.0 at β = 0.1; 4 of 4 steps as claimed",
        ),
        # For the second α, the end is above the beginning.
        (beta_grid(RISES, [82.0, 88.0, 86.0]), CONTRADICTED, "; 3 of 4 steps as claimed"),
        # For the second α, the peak is not above the beginning.
        (beta_grid(RISES, [88.0, 87.0, 80.0]), CONTRADICTED, "; 3 of 4 steps as claimed"),
        (beta_grid(RISES, RISES, scatter=9), NOT_SETTLED, "; 0 of 4 steps as claimed"),
        # It rises to the end, or falls from the beginning.
        (beta_grid([80.0, 84.0, 88.0]), CONTRADICTED, "80.0 at β = 0.001, 84.0 at β = 0.01, 88.0 at β = 0.1"),
        (beta_grid([88.0, 84.0, 80.0]), CONTRADICTED, "80.0 at β = 0.1"),
        (beta_grid([80.0, 87.9, 88.0]), NOT_SETTLED, "88.0 at β = 0.1"),
        # All cells are tied.
        (grid({(0.01, beta): [50.0] * 3 for beta in (0.001, 0.01, 0.1)}), NOT_SETTLED, "50.0 at β = 0.1"),
    ],
)
def test_accuracy_over_beta(rows, verdict, text):
    found, evidence = judged(BETA, grid=rows, scale="source")  # β means the same on every scale of α
    assert found is verdict
    assert evidence.endswith(text)


def test_accuracy_over_beta_takes_three_values_and_complete_values_of_alpha():
    two = grid({(0.01, 0.01): [88.0] * 3, (0.01, 0.1): [84.0] * 3})
    assert check_claims(grid=two)[BETA].missing == "the grid has fewer than three values of β"
    failed = beta_grid(RISES, RISES)
    failed.loc[(failed["alpha"] == 0.1) & (failed["beta"] == 0.1) & (failed["fold"] == 0), "top1"] = NAN
    assert judged(BETA, grid=failed)[1].endswith("2 of 2 steps as claimed")
    failed.loc[(failed["alpha"] == 0.01) & (failed["beta"] == 0.001), "top1"] = NAN
    assert check_claims(grid=failed)[BETA].missing == "no value of α without a cell that diverged"
    folds = beta_grid(RISES)
    verdict, text = judged(BETA, grid=folds[folds["fold"] < 2])
    assert verdict is NOT_SETTLED
    assert text.endswith("; 0 of 2 steps as claimed (two folds give no interval)")


def shares(share: list[float], reach: list[float], second: list[float] | None = None) -> pd.DataFrame:
    """Of the share over all filters and of the reach in two stages, one value a seed."""
    rows = []
    for seed in range(len(share)):
        rows += [
            ("birds", "net", "conv2_x", seed, 400, 10.0, reach[seed]),
            ("birds", "net", "conv3_x", seed, 600, 10.0, (second or reach)[seed]),
            ("birds", "net", "all", seed, 12000, share[seed], 1.0),
        ]
    return pd.DataFrame(rows, columns=["dataset", "backbone", "stage", "seed", "filters", "share", "reach"])


@pytest.mark.parametrize(
    ("share", "verdict", "text"),
    [
        ([89, 90, 91], SUPPORTED, "90.00 [87.52, 92.48] % of 12,000 filters"),
        ([60, 61, 62], CONTRADICTED, "61.00 [58.52, 63.48] % of 12,000 filters"),
        ([80, 81, 82], NOT_SETTLED, "81.00 [78.52, 83.48] % of 12,000 filters"),
        ([90], NOT_SETTLED, "90.00 (one seed gives no interval) % of 12,000 filters"),
    ],
)
def test_about_ninety_percent_of_the_filters(share, verdict, text):
    assert judged(FARTHER, shares=shares(share, [5.0] * len(share))) == (verdict, text)


@pytest.mark.parametrize(
    ("reach", "second", "verdict"),
    [
        ([6, 7, 8], [6, 7, 8], SUPPORTED),
        ([6, 7, 8], [3, 4, 5], NOT_SETTLED),
        ([6, 7, 8], [1.1, 1.2, 1.3], CONTRADICTED),
    ],
)
def test_a_few_filters_are_very_far(reach, second, verdict):
    found, text = judged(VERY_FAR, shares=shares([90, 91, 92], reach, second))
    assert found is verdict
    assert text.startswith("conv2_x 7.00 [4.52, 9.48], conv3_x ")
    still = shares([90, 91, 92], [NAN, 7, 8])
    assert check_claims(shares=still)[VERY_FAR].missing == "half of a stage's filters did not move"


SUMS = {"l2_fe": [1.5], "l2": [1.7, 1.8, 1.9], "l2_sp": [2.0] * 3, "delta_wo_att": [2.1] * 3, "delta": [2.4, 2.5, 2.6]}


def table3(**sums: list[float]) -> pd.DataFrame:
    rows = [
        ("birds", "net", method, seed, value)
        for method, values in (SUMS | sums).items()
        for seed, value in enumerate(values)
    ]
    values = pd.DataFrame(rows, columns=["dataset", "backbone", "method", "seed", "value"])
    keys = ["dataset", "backbone", "method"]
    return values[keys].drop_duplicates().merge(delta_minus_others(values), how="left", on=keys)


def test_deltas_difference_to_other_networks_is_paired_by_seed():
    found = table3().set_index("method")
    # DELTA minus L2 is 0.7 for every seed; minus the source network, which is one, 0.9, 1.0 and 1.1.
    assert found.loc["l2"][["difference", "pairs"]].tolist() == pytest.approx([0.7, 3])
    assert pd.isna(found.loc["l2"]["low"])
    assert found.loc["l2_fe"][["difference", "low", "high", "pairs"]].tolist() == pytest.approx(
        [1.0, 1 - 0.24841, 1 + 0.24841, 3], abs=1e-5
    )
    assert pd.isna(found.loc["delta"]["difference"])


def test_the_highest_activation_at_the_parts():
    supported = {"l2": [1.8, 1.8, 1.9]}
    assert judged(PARTS, table3=table3(**supported)) == (
        SUPPORTED,
        "minus SRC 1.000 [0.752, 1.248], minus L2 0.667 [0.523, 0.810], minus L2-SP 0.500 [0.252, 0.748], "
        "minus DELTA(w/o ATT) 0.400 [0.152, 0.648]",
    )
    assert judged(PARTS, table3=table3(**supported, l2_sp=[2.5] * 3))[0] is NOT_SETTLED
    assert judged(PARTS, table3=table3(**supported, l2_sp=[3.5] * 3))[0] is CONTRADICTED
    verdict, text = judged(PARTS, table3=table3(delta=[2.4, 2.5]))
    assert verdict is NOT_SETTLED
    assert text.startswith("minus SRC 0.950 (two seeds give no interval), ")
    rows = table3()
    assert check_claims(table3=rows[rows["method"] != "l2"])[PARTS].missing == "no L2 in this run"


KINDS_OF = ["objects", "scenes", "parts", "textures", "colors", "sum"]
COUNTS = {"objects": 5, "scenes": 4, "parts": 3, "textures": 10, "colors": 1, "sum": 23}


def detected(l2_sp: dict[str, float] | None = None, seeds: int = 3, **delta: float) -> pd.DataFrame:
    """Detectors of L2-SP (COUNTS) and of DELTA, which differ by the given numbers, give or take 0.1 by seed."""
    rows = []
    counts = COUNTS | (l2_sp or {})
    for seed in range(seeds):
        for metric, count in counts.items():
            rows.append(("birds", "net", "l2_sp", metric, seed, count))
            gain = delta.get(metric, 0)
            rows.append(("birds", "net", "delta", metric, seed, count + gain + (0.1 * (seed - 1) if gain else 0)))
    values = pd.DataFrame(rows, columns=["dataset", "backbone", "method", "metric", "seed", "value"])
    keys = ["dataset", "backbone", "method", "metric"]
    means = values.groupby(keys, sort=False)["value"].mean().rename("mean").reset_index()
    return means.merge(delta_minus_others(values, by=["metric"]), how="left", on=keys)


def test_more_unique_detectors():
    # ± 4.3027 · 0.1 / √3 = 0.25
    assert judged(DETECTORS, table4=detected(sum=2)) == (SUPPORTED, "25 against 23, +2.0 [+1.8, +2.2]")
    assert judged(DETECTORS, table4=detected(sum=-2)) == (CONTRADICTED, "21 against 23, −2.0 [−2.2, −1.8]")
    assert judged(DETECTORS, table4=detected(sum=0.2))[0] is NOT_SETTLED
    # Of two seeds DELTA's counts are 2.4 and 2.5 above L2-SP's.
    verdict, text = judged(DETECTORS, table4=detected(seeds=2, sum=2.5))
    assert verdict is NOT_SETTLED
    assert text.endswith(" (two seeds give no interval)")


@pytest.mark.parametrize(
    ("delta", "verdict"),
    [
        ({"objects": 1, "scenes": 1, "parts": 1, "colors": 1}, SUPPORTED),
        ({"objects": 1, "scenes": 1, "parts": 1}, SUPPORTED),  # equally many colors
        ({"objects": 1, "scenes": 1, "parts": 1, "colors": -1}, SUPPORTED),
        ({"objects": 1, "scenes": 1}, NOT_SETTLED),
        ({"objects": 1, "scenes": 1, "parts": -1}, NOT_SETTLED),
        ({"objects": 1, "scenes": 1, "parts": -1, "colors": -1}, CONTRADICTED),
        ({"objects": 9, "scenes": 9, "textures": 99}, NOT_SETTLED),  # textures do not count here
    ],
)
def test_more_of_most_kinds(delta, verdict):
    found, evidence = judged(KINDS, table4=detected(**delta))
    assert found is verdict
    assert evidence.startswith(f"objects {5 + delta['objects']} against 5, +{delta['objects']:.1f} [")


@pytest.mark.parametrize(
    ("textures", "verdict"),
    [(1, SUPPORTED), (-1.5, SUPPORTED), (1.9, NOT_SETTLED), (3, CONTRADICTED), (-4, CONTRADICTED)],
)
def test_comparably_many_textures(textures, verdict):
    assert judged(TEXTURES, table4=detected(textures=textures))[0] is verdict


def test_no_texture_against_none_is_not_judged():
    rows = detected({"textures": 0})
    assert check_claims(table4=rows)[TEXTURES].missing == "neither network detects a texture"
    # One against none is not comparably many.
    assert judged(TEXTURES, table4=detected({"textures": 0}, textures=1))[0] is CONTRADICTED


def test_detectors_of_one_method_are_not_judged():
    rows = detected()
    claims = check_claims(table4=rows[rows["method"] == "delta"])
    assert {claims[number].missing for number in (DETECTORS, KINDS, TEXTURES)} == {"no L2-SP in this run"}


def test_the_papers_tables_3_and_4_are_judged_by_their_values():
    claims = check_claims()
    with Path(paper.__file__).with_name("paper.csv").open(encoding="utf-8") as lines:
        rows = [line for line in csv.DictReader(lines) if line["table"] in "34"]
    parts = {line["method"]: float(line["mean"]) for line in rows if line["table"] == "3"}
    assert parts["delta"] > max(value for method, value in parts.items() if method != "delta")
    assert claims[PARTS].paper == Tally(1, 0, 1)
    counts = {
        (line["dataset"], line["method"], line["metric"].removeprefix("unique_detectors_")): float(line["mean"])
        for line in rows
        if line["table"] == "4"
    }
    datasets = sorted({dataset for dataset, _, _ in counts})
    assert len(datasets) == 4
    gains = {
        (dataset, kind): counts[dataset, "delta", kind] - counts[dataset, "l2_sp", kind]
        for dataset in datasets
        for kind in KINDS_OF
    }
    assert all(gains[dataset, "sum"] > 0 for dataset in datasets)
    kinds = ("objects", "scenes", "parts", "colors")
    assert [sum(gains[dataset, kind] > 0 for kind in kinds) for dataset in datasets] == [4, 3, 4, 4]
    ratios = [abs(gains[dataset, "textures"]) / counts[dataset, "l2_sp", "textures"] for dataset in datasets]
    assert max(ratios) < 0.2
    for number in (DETECTORS, KINDS, TEXTURES):
        assert claims[number].paper == Tally(4, 0, 4)
        assert claims[number].paper_count == "4 of 4 supported, by its values alone"


AREAS = {"l2_fe": 40.0, "l2": 30.0, "l2_sp": 20.0, "delta_wo_att": 20.0, "delta": 10.0}


def activation_maps(
    delta_wo_att: list[float] = (0.9, 0.92, 0.94),
    delta: list[float] = (0.5, 0.5, 0.5),
    name: str = "7",
    areas: dict[str, list[float]] | None = None,
) -> pd.DataFrame:
    """One map per network for each of three images; an image adds its number to the areas but DELTA's."""
    rows = []
    for image in range(3):
        correlations = {"l2_sp": 1.0, "delta_wo_att": delta_wo_att[image], "delta": delta[image]}
        for method, area in AREAS.items():
            value = (areas or {}).get(method, [area + (0 if method == "delta" else image)] * 3)[image]
            keys = ("birds", "net", f"class {image}", f"{image}.jpg", name, method)
            rows.append((*keys, value, correlations.get(method, NAN)))
    columns = ["dataset", "backbone", "label", "path", "map", "method", "area", "correlation"]
    return pd.DataFrame(rows, columns=columns)


@pytest.mark.parametrize(
    ("correlations", "verdict", "text"),
    [
        ([0.9, 0.92, 0.94], SUPPORTED, "correlation 0.92 [0.87, 0.97]"),
        ([-0.40, -0.41, -0.42], CONTRADICTED, "correlation −0.41 [−0.43, −0.39]"),
        ([0.7, 0.8, 0.9], NOT_SETTLED, "correlation 0.80 [0.55, 1.05]"),
    ],
)
def test_without_attention_maps_are_more_or_less_the_same(correlations, verdict, text):
    assert judged(SIMILAR, maps=activation_maps(correlations)) == (verdict, text)


@pytest.mark.parametrize(
    ("delta", "verdict", "text"),
    [
        # 0.40, 0.42 and 0.44: ± 4.3027 · 0.02 / √3.
        ([0.5, 0.5, 0.5], SUPPORTED, "DELTA(w/o ATT) 0.92, DELTA 0.50: 0.42 [0.37, 0.47]"),
        # −0.045, −0.05 and −0.055: ± 4.3027 · 0.005 / √3.
        ([0.945, 0.97, 0.995], CONTRADICTED, "DELTA(w/o ATT) 0.92, DELTA 0.97: −0.05 [−0.06, −0.04]"),
        # 0.1, 0 and −0.1: ± 4.3027 · 0.1 / √3.
        ([0.8, 0.92, 1.04], NOT_SETTLED, "DELTA(w/o ATT) 0.92, DELTA 0.92: 0.00 [−0.25, 0.25]"),
    ],
)
def test_attention_changes_the_maps(delta, verdict, text):
    assert judged(CHANGED, maps=activation_maps(delta=delta)) == (verdict, text)


def test_correlations_are_over_the_same_maps_of_all_networks():
    # Image by image: (0.9 + 0.3) / 2 and so on. Filter 9 counts nowhere, as DELTA's map is constant, nor does the whole
    # network's map.
    rows = pd.concat(
        [
            activation_maps(),
            activation_maps([0.3, 0.34, 0.38], [0.1, 0.1, 0.1], "8"),
            activation_maps([-1.0] * 3, [NAN] * 3, "9"),
            activation_maps([-1.0] * 3, [1.0] * 3, "network"),
        ]
    )
    # 0.6, 0.63 and 0.66 against 0.3.
    assert judged(CHANGED, maps=rows) == (SUPPORTED, "DELTA(w/o ATT) 0.63, DELTA 0.30: 0.33 [0.26, 0.40]")
    constant = check_claims(maps=activation_maps(delta=[NAN] * 3))
    for number in (SIMILAR, CHANGED):
        assert constant[number].missing == (
            "no filter's map that has contrast with all of L2-SP, DELTA(w/o ATT) and DELTA"
        )
    rows = activation_maps()
    assert check_claims(maps=rows[rows["method"] != "delta"])[CHANGED].missing == "no DELTA in this run"


def test_maps_are_more_concentrated():
    # DELTA minus SRC: −30, −31, −32.
    assert judged(CONCENTRATED, maps=activation_maps()) == (
        SUPPORTED,
        "DELTA 10.0 % minus SRC −31.0 [−33.5, −28.5], minus L2 −21.0 [−23.5, −18.5], minus L2-SP −11.0 [−13.5, −8.5], "
        "minus DELTA(w/o ATT) −11.0 [−13.5, −8.5]",
    )
    open_one = activation_maps(areas={"delta": [19.0, 21.0, 24.0]})
    assert judged(CONCENTRATED, maps=open_one)[0] is NOT_SETTLED
    wide = activation_maps(areas={"delta": [60.0, 60.0, 60.0]})
    assert judged(CONCENTRATED, maps=wide)[0] is CONTRADICTED


def test_concentration_compares_the_same_maps():
    # SRC's maps of filter 8 are constant, so that filter counts for no network: DELTA's wide maps of it, neither.
    constant = activation_maps(name="8", areas={"l2_fe": [0.0] * 3, "delta": [90.0] * 3})
    network = activation_maps(name="network", areas={"delta": [99.0] * 3})
    verdict, text = judged(CONCENTRATED, maps=pd.concat([activation_maps(), constant, network]))
    assert verdict is SUPPORTED
    assert text.startswith("DELTA 10.0 % minus SRC −31.0 [−33.5, −28.5], ")
    assert text.endswith("; 3 of 6 maps have no contrast for some network and are left out")
    claim = check_claims(maps=constant)[CONCENTRATED]
    assert claim.missing == "no filter's map has contrast in all five networks"


@pytest.mark.parametrize(
    ("points", "text"),
    [(3.24, "+3.2"), (-0.36, "−0.4"), (-0.04, "−0.04"), (0.001, "0.0"), (-0.001, "0.0"), (0.0, "0.0")],
)
def test_a_difference_keeps_its_sign(points, text):
    assert format_difference(points) == text
