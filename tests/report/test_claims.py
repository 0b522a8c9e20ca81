"""The paper's claims on synthetic results that make each of them hold, fail or not be judged."""

from __future__ import annotations

import pandas as pd
import pytest

from delta.report import paper
from delta.report.claims import check_claims
from delta.report.statistics import format_difference
from delta.report.verdicts import Claim

NAN = float("nan")
MEANS = {"l2_fe": 72.3, "l2": 75.0, "l2_sp": 76.0, "l2_sp_att": 75.5, "delta_wo_att": 78.7, "delta": 79.2}
INTERVALS = {"l2": (-2.5, 0.5), "l2_sp_att": (-0.9, -0.1), "delta": (1.9, 4.5)}
(
    BEATS_L2_SP,
    ATTENTION,
    NOT_ON_WEIGHTS,
    START,
    BEST,
    IMPROVES,
    BEST_IMPROVED,
    STEP,
    EXPONENTIAL,
    SMOOTH,
    GRID,
    FARTHER,
    PARTS,
    DETECTORS,
    KINDS,
    TEXTURES,
    CHANGED,
    CONCENTRATED,
) = range(18)


def table(dataset: str = "birds", seeds: int = 3, **means: float) -> pd.DataFrame:
    rows = []
    for method, mean in (MEANS | means).items():
        low, high = INTERVALS.get(method, (NAN, NAN)) if seeds > 2 else (NAN, NAN)
        rows.append((dataset, "net", method, mean, 0.3, seeds, NAN, NAN, mean - means.get("l2_sp", 76.0), low, high))
    columns = [
        "dataset",
        "backbone",
        "method",
        "mean",
        "std",
        "seeds",
        "paper_mean",
        "paper_std",
        "difference",
        "low",
        "high",
    ]
    return pd.DataFrame(rows, columns=columns)


def curves(
    delta: list[float], l2_sp: list[float], schedule: str = "StepLR", epochs: list | None = None
) -> pd.DataFrame:
    rows = []
    for method, top1 in {"l2_sp": l2_sp, "delta": delta}.items():
        for epoch, value in zip(epochs or range(1, len(top1) + 1), top1, strict=True):
            rows.append(("birds", "net", method, schedule, 0, float(epoch), value))
    return pd.DataFrame(rows, columns=["dataset", "backbone", "method", "schedule", "seed", "epoch", "top1"])


def grid(cells: dict[tuple[float, float], list[float]]) -> pd.DataFrame:
    rows = [
        ("birds", "net", alpha, beta, fold, top1, "diverged" if pd.isna(top1) else NAN)
        for (alpha, beta), folds in cells.items()
        for fold, top1 in enumerate(folds)
    ]
    return pd.DataFrame(rows, columns=["dataset", "backbone", "alpha", "beta", "fold", "top1", "problem"])


def shares(share: float) -> pd.DataFrame:
    rows = [("birds", "net", "conv2_x", 400, 10.0), ("birds", "net", "all", 12000, share)]
    return pd.DataFrame(rows, columns=["dataset", "backbone", "stage", "filters", "share"])


def only(claim: Claim) -> tuple[bool, str]:
    (verdict,) = claim.verdicts
    assert (verdict.dataset, verdict.backbone, claim.holds) == ("birds", "net", verdict.holds)
    return verdict.holds, verdict.evidence


def on_table1(number: int, **means: float) -> tuple[bool, str]:
    return only(check_claims(table(**means))[number])


def test_claims_that_hold_in_table_1():
    claims = check_claims(table())
    assert [only(claim) for claim in claims[BEATS_L2_SP : BEST + 1]] == [
        (True, "79.2 against 76.0, +3.2 [+1.9, +4.5], excludes 0"),
        (True, "79.2 against 78.7, +0.5"),
        (True, "75.5 against 76.0, −0.5 [−0.9, −0.1], excludes 0"),
        # L2 minus L2-SP is between −2.5 and +0.5, so L2-SP minus L2 is between −0.5 and +2.5.
        (True, "76.0 against 75.0, +1.0 [−0.5, +2.5], the interval contains 0: not settled by these seeds"),
        (True, "DELTA 79.2, the best of the others DELTA(w/o ATT) 78.7"),
    ]
    assert [claim.count for claim in claims[:BEST]] == ["holds in 1 of 1"] * 4


@pytest.mark.parametrize(
    ("number", "means", "evidence"),
    [
        (BEATS_L2_SP, {"delta": 75.0}, "75.0 against 76.0, −1.0"),
        (ATTENTION, {"delta": 78.0}, "78.0 against 78.7, −0.7"),
        (NOT_ON_WEIGHTS, {"l2_sp_att": 77.7}, "77.7 against 76.0, +1.7"),
        (START, {"l2": 77.8}, "76.0 against 77.8, −1.8"),
        (BEST, {"l2_fe": 90.0}, "DELTA 79.2, the best of the others L2-FE 90.0"),
    ],
)
def test_each_claim_of_table_1_can_fail(number, means, evidence):
    holds, found = on_table1(number, **means)
    assert not holds
    assert found.startswith(evidence)


@pytest.mark.parametrize(
    ("number", "means"),
    [
        (BEATS_L2_SP, {"delta": 76.0}),
        (ATTENTION, {"delta": 78.7}),
        (NOT_ON_WEIGHTS, {"l2_sp_att": 76.0}),
        (START, {"l2": 76.0}),
        (BEST, {"l2": 79.2}),
    ],
)
def test_equal_means_are_at_least_as_good(number, means):
    assert on_table1(number, **means)[0]


@pytest.mark.parametrize(("seeds", "words"), [(1, "one seed"), (2, "two seeds")])
def test_few_seeds_give_no_interval(seeds, words):
    claim = check_claims(table(seeds=seeds))[BEATS_L2_SP]
    assert only(claim) == (True, f"79.2 against 76.0, +3.2; {words} give{'s' if seeds == 1 else ''} no interval")


def test_the_papers_numbers_are_shown():
    rows = table()
    rows["paper_mean"] = [61.5, 78.4, 79.5, 77.8, 78.9, 80.5]
    claims = check_claims(rows)
    assert only(claims[ATTENTION])[1] == "79.2 against 78.7, +0.5; in the paper 80.5 against 78.9"


def test_one_failure_among_several_is_counted():
    rows = pd.concat([table("birds"), table("dogs", delta=70.0), table("cars")])
    claim = check_claims(rows)[BEATS_L2_SP]
    assert [(verdict.dataset, verdict.holds) for verdict in claim.verdicts] == [
        ("birds", True),
        ("dogs", False),
        ("cars", True),
    ]
    assert (claim.checked, claim.holds, claim.count) == (True, False, "holds in 2 of 3")


def test_a_method_without_runs_is_named():
    rows = table()
    claims = check_claims(rows[~rows["method"].isin(["delta_wo_att", "delta"])])
    assert claims[BEATS_L2_SP].missing == "no DELTA in this run"
    assert claims[ATTENTION].missing == "no DELTA and no DELTA(w/o ATT) in this run"
    assert only(claims[START])[0]
    assert check_claims(rows[rows["method"] == "delta"])[BEST].missing == "no other method than DELTA"


def test_a_pair_that_is_not_judged_is_named():
    dogs = table("stanford_dogs_120")
    claim = check_claims(pd.concat([table(), dogs[dogs["method"] != "l2"]]))[START]
    assert claim.count == "holds in 1 of 1"
    assert claim.missing == "Stanford Dogs 120, net: no L2 in this run"


@pytest.mark.parametrize("frame", [None, pd.DataFrame(columns=["dataset", "backbone"])])
def test_without_data_no_claim_is_judged(frame):
    claims = check_claims(*[frame] * 8)
    assert len(claims) == 18
    assert {claim.count for claim in claims} == {"not judged"}
    assert not any(claim.checked or claim.holds for claim in claims)
    shown = (BEST, IMPROVES, BEST_IMPROVED, SMOOTH, GRID, FARTHER, PARTS, DETECTORS, KINDS, TEXTURES, CHANGED)
    assert [claims[number].missing for number in shown] == [
        "no Table 1 in this run",
        "no data set of this run asks for the improved view",
        "no data set of this run asks for the improved view",
        "no learning curves in this run",
        "no grid search in this run",
        "no filter distances in this run",
        "no data set of this run has its part activation measured",
        *["no data set of this run has its networks dissected"] * 3,
        "no activation maps in this run",
    ]


def improved(**means: float) -> pd.DataFrame:
    rows = table(**({"l2": 76.0, "l2_sp": 76.5, "l2_sp_att": 77.0, "delta": 80.0} | means))
    return rows[rows["method"].isin(["l2", "l2_sp", "l2_sp_att", "delta"])]


def test_the_improved_view():
    claims = check_claims(table(), improved())
    assert only(claims[IMPROVES]) == (
        True,
        "L2 75.0 → 76.0 (+1.0), L2-SP 76.0 → 76.5 (+0.5), L2-SP(ATT) 75.5 → 77.0 (+1.5), DELTA 79.2 → 80.0 (+0.8)",
    )
    assert only(claims[BEST_IMPROVED]) == (True, "DELTA 80.0, the best of the others L2-SP(ATT) 77.0")


def test_the_improved_view_can_fail():
    same = check_claims(table(), improved(l2_sp=76.0))
    assert not same[IMPROVES].holds  # an equal mean is not an improvement
    assert not check_claims(table(), improved(l2=80.1))[BEST_IMPROVED].holds
    rows = improved()
    fewer = check_claims(table(), rows[rows["method"] != "l2_sp_att"])
    assert fewer[IMPROVES].missing == "no L2-SP(ATT) in this run"
    assert fewer[BEST_IMPROVED].holds


def test_the_area_weighs_a_shorter_epoch_by_its_length():
    # DELTA: (60 + 70)/2 over one epoch and (70 + 80)/2 over half an epoch, divided by 1.5: 68.33. The plain mean is 70.
    rows = curves([60, 70, 80], [69, 69, 69], epochs=[1, 2, 2.5])
    assert only(check_claims(curves=rows)[STEP]) == (False, "68.3 against 69.0, −0.7")
    assert (
        check_claims(curves=rows)[EXPONENTIAL].missing
        == "no learning curves of both L2-SP and DELTA under ExponentialLR"
    )


def test_convergence_is_judged_for_each_schedule_over_all_seeds():
    rows = pd.concat(
        [
            curves([70, 80], [60, 70]),
            curves([50, 60], [60, 70]).assign(seed=1),
            curves([61, 70], [60, 70], "ExponentialLR"),
        ]
    )
    claims = check_claims(curves=rows)
    assert only(claims[STEP]) == (False, "65.0 against 65.0, 0.0")  # (75 + 55)/2 is not more than 65
    assert only(claims[EXPONENTIAL]) == (True, "65.5 against 65.0, +0.5")


def test_the_area_of_a_single_point_is_its_value():
    assert only(check_claims(curves=curves([71], [70]))[STEP]) == (True, "71.0 against 70.0, +1.0")


def test_smoothness_is_the_second_difference_over_complete_epochs():
    # Second differences of DELTA: 0, −1; of L2-SP: −4, 4. Points after the last complete epoch do not count.
    rows = curves([60, 62, 64, 65, 5], [60, 64, 64, 68, 68], epochs=[1, 2, 3, 4, 4.4])
    assert only(check_claims(curves=rows)[SMOOTH]) == (True, "StepLR 0.50 against 4.00")
    rougher = curves([60, 64, 64, 68], [60, 62, 64, 65], "ExponentialLR")
    both = check_claims(curves=pd.concat([rows, rougher]))[SMOOTH]
    assert only(both) == (False, "StepLR 0.50 against 4.00, ExponentialLR 4.00 against 0.50")


def test_three_epochs_are_too_few_for_smoothness():
    claim = check_claims(curves=curves([60, 62, 64], [60, 64, 64]))[SMOOTH]
    assert (claim.checked, claim.missing) == (
        False,
        "no schedule with learning curves of both L2-SP and DELTA over four whole epochs",
    )


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (
            {(0.01, 0.01): [88.0, 89.0], (0.1, 0.01): [87.0, 88.0]},
            (True, "α = β = 0.01 has 88.5; the best cell is α = 0.01, β = 0.01 with 88.5"),
        ),
        (
            {(0.01, 0.01): [88.0, 89.0], (0.1, 0.01): [89.0, 90.0]},
            (False, "α = β = 0.01 has 88.5; the best cell is α = 0.1, β = 0.01 with 89.5"),
        ),
        # These are tied: none is larger, although the pipeline chooses the smaller α.
        (
            {(0.01, 0.01): [88.0, 89.0], (0.001, 0.01): [89.0, 88.0]},
            (True, "α = β = 0.01 has 88.5; the best cell is α = 0.001, β = 0.01 with 88.5"),
        ),
        # A cell that diverged on one fold cannot win, whatever its other folds.
        (
            {(0.01, 0.01): [88.0, 89.0], (0.1, 0.01): [99.0, NAN]},
            (True, "α = β = 0.01 has 88.5; the best cell is α = 0.01, β = 0.01 with 88.5"),
        ),
        (
            {(0.01, 0.01): [99.0, NAN], (0.1, 0.01): [87.0, 88.0]},
            (False, "α = β = 0.01 diverged; the best cell is α = 0.1, β = 0.01 with 87.5"),
        ),
        ({(0.01, 0.01): [NAN, NAN], (0.1, 0.01): [NAN, 88.0]}, (False, "every cell diverged")),
    ],
)
def test_the_papers_cell_of_the_grid(cells, expected):
    assert only(check_claims(grid=grid(cells))[GRID]) == expected


def test_a_grid_without_the_papers_cell_or_without_others_is_not_judged():
    for cells, missing in [
        ({(0.1, 0.01): [88.0]}, "the grid has no cell α = β = 0.01"),
        ({(0.01, 0.01): [88.0]}, "the grid has no other cell than α = β = 0.01"),
    ]:
        claim = check_claims(grid=grid(cells))[GRID]
        assert (claim.checked, claim.missing) == (False, missing)


@pytest.mark.parametrize(("share", "holds"), [(79.9, False), (80.0, True), (91.3, True), (100.0, True)])
def test_about_ninety_percent_of_the_filters(share, holds):
    assert only(check_claims(shares=shares(share))[FARTHER]) == (holds, f"{share} % of 12,000 filters")


FIVE = {"l2_fe": 1.5, "l2": 1.75, "l2_sp": 2.0, "delta_wo_att": 2.25, "delta": 2.5}


def at_parts(paper: dict[str, float] | None = None, **means: float) -> pd.DataFrame:
    rows = [("birds", "net", method, mean, (paper or {}).get(method, NAN)) for method, mean in (FIVE | means).items()]
    return pd.DataFrame(rows, columns=["dataset", "backbone", "method", "mean", "paper_mean"])


def test_the_highest_activation_at_the_parts():
    claim = check_claims(table3=at_parts())[PARTS]
    assert only(claim) == (True, "DELTA 2.500, the best of the others DELTA(w/o ATT) 2.250")
    assert only(check_claims(table3=at_parts(l2_fe=2.5))[PARTS])[0]  # an equal mean is not larger
    assert only(check_claims(table3=at_parts(l2_sp_att=2.6))[PARTS]) == (
        False,
        "DELTA 2.500, the best of the others L2-SP(ATT) 2.600",
    )
    rows = at_parts()
    assert check_claims(table3=rows[rows["method"] != "l2"])[PARTS].missing == "no L2 in this run"


def test_the_papers_table_3_supports_its_claim():
    means = paper.numbers(3).set_index("method")["mean"].to_dict()
    assert len(means) == 5
    assert only(check_claims(table3=at_parts(means, **means))[PARTS]) == (
        True,
        "DELTA 6.367, the best of the others L2-SP 6.258; in the paper DELTA 6.367, the best of the others L2-SP 6.258",
    )


COUNTS = {"objects": 5, "scenes": 4, "parts": 3, "textures": 10, "colors": 1, "sum": 23}


def detected(paper: float = NAN, **delta: float) -> pd.DataFrame:
    """Detectors of L2-SP (COUNTS) and of DELTA, with the given differences."""
    rows = []
    for method, counts in {"l2_sp": COUNTS, "delta": COUNTS | delta}.items():
        rows += [("birds", "net", method, metric, mean, paper) for metric, mean in counts.items()]
    return pd.DataFrame(rows, columns=["dataset", "backbone", "method", "metric", "mean", "paper_mean"])


def test_more_unique_detectors():
    assert only(check_claims(table4=detected(sum=23.3))[DETECTORS]) == (True, "23.3 against 23")
    assert only(check_claims(table4=detected(sum=23))[DETECTORS]) == (False, "23 against 23")
    assert (
        only(check_claims(table4=detected(paper=7.0, sum=24))[DETECTORS])[1]
        == "24 against 23; in the paper 7 against 7"
    )


@pytest.mark.parametrize(
    ("delta", "holds"),
    [
        ({"objects": 6, "scenes": 5, "parts": 4, "colors": 2}, True),
        ({"objects": 6, "scenes": 5, "parts": 4}, True),  # equally many colors
        ({"objects": 6, "scenes": 5}, False),  # more in only two
        ({"objects": 6, "scenes": 5, "parts": 4, "colors": 0}, False),  # fewer in one
        ({"objects": 9, "scenes": 9, "textures": 99}, False),  # textures do not count here
    ],
)
def test_more_of_most_kinds(delta, holds):
    found, evidence = only(check_claims(table4=detected(**delta))[KINDS])
    assert found == holds
    assert evidence.startswith(f"objects {delta['objects']} against 5, scenes {delta['scenes']} against 4, parts ")


@pytest.mark.parametrize(("textures", "holds"), [(8, True), (12, True), (7.9, False), (12.1, False)])
def test_comparably_many_textures(textures, holds):
    number = f"{textures:g}"
    assert only(check_claims(table4=detected(textures=textures))[TEXTURES]) == (holds, f"{number} against 10")


def test_detectors_of_one_method_are_not_judged():
    rows = detected()
    claims = check_claims(table4=rows[rows["method"] == "delta"])
    assert {claims[number].missing for number in (DETECTORS, KINDS, TEXTURES)} == {"no L2-SP in this run"}


def test_the_papers_table_4_supports_its_claims_on_all_data_sets():
    rows = paper.numbers(4).assign(metric=lambda table: table["metric"].str.removeprefix("unique_detectors_"))
    rows["paper_mean"] = rows["mean"]
    claims = check_claims(table4=rows)
    for number in (DETECTORS, KINDS, TEXTURES):
        assert claims[number].count == "holds in 4 of 4"
    assert claims[TEXTURES].verdicts[0].evidence == "32 against 39; in the paper 32 against 39"


AREAS = {"l2_fe": 40.0, "l2": 30.0, "l2_sp": 20.0, "delta_wo_att": 20.0, "delta": 10.0}
CORRELATIONS = {"l2_sp": 1.0, "delta_wo_att": 0.9, "delta": 0.5}


def activation_maps(
    name: str = "7", areas: dict[str, float] | None = None, correlations: dict[str, float] | None = None
) -> pd.DataFrame:
    """One map per network."""
    areas, correlations = AREAS | (areas or {}), CORRELATIONS | (correlations or {})
    rows = [("birds", "net", "a", "a.jpg", name, key, area, correlations.get(key, NAN)) for key, area in areas.items()]
    columns = ["dataset", "backbone", "label", "path", "map", "method", "area", "correlation"]
    return pd.DataFrame(rows, columns=columns)


def test_attention_changes_the_maps():
    # 0.9 and 0.3, 0.5 and 0.1. The third map is left out, because DELTA's is constant.
    rows = pd.concat(
        [
            activation_maps(),
            activation_maps("8", correlations={"delta_wo_att": 0.3, "delta": 0.1}),
            activation_maps("9", correlations={"delta_wo_att": -1.0, "delta": NAN}),
            activation_maps("network", correlations={"delta_wo_att": -1.0, "delta": 1.0}),
        ]
    )
    assert only(check_claims(maps=rows)[CHANGED]) == (True, "DELTA(w/o ATT) 0.60, DELTA 0.30")
    assert not check_claims(maps=activation_maps(correlations={"delta": 0.9}))[
        CHANGED
    ].holds  # an equal mean is not larger
    negative = activation_maps(correlations={"delta_wo_att": -0.004, "delta": -0.2})
    assert only(check_claims(maps=negative)[CHANGED]) == (True, "DELTA(w/o ATT) 0.00, DELTA −0.20")
    constant = check_claims(maps=activation_maps(correlations={"delta": NAN}))[CHANGED]
    assert constant.missing == "no filter's map that has contrast with all of L2-SP, DELTA(w/o ATT) and DELTA"
    rows = activation_maps()
    assert check_claims(maps=rows[rows["method"] != "delta"])[CHANGED].missing == "no DELTA in this run"


def test_maps_are_more_concentrated():
    # The map of the whole network and constant maps are left out.
    rows = pd.concat(
        [
            activation_maps(),
            activation_maps("8", {"l2_fe": 0.0, "delta": 20.0}),
            activation_maps("network", {"delta": 99.0}),
        ]
    )
    evidence = "SRC 40.0 %, L2 30.0 %, L2-SP 20.0 %, DELTA(w/o ATT) 20.0 %, DELTA 15.0 %"
    assert only(check_claims(maps=rows)[CONCENTRATED]) == (
        True,
        f"{evidence}; without contrast and left out: 1 of SRC's 2",
    )
    assert not check_claims(maps=activation_maps(areas={"delta": 20.1}))[CONCENTRATED].holds
    constant = check_claims(maps=activation_maps(areas={"delta": 0.0, "l2": 0.0}))[CONCENTRATED]
    assert constant.missing == "no filter's map of L2 and DELTA has any contrast"


@pytest.mark.parametrize(
    ("points", "text"),
    [(3.24, "+3.2"), (-0.36, "−0.4"), (-0.04, "−0.04"), (0.001, "0.0"), (-0.001, "0.0"), (0.0, "0.0")],
)
def test_a_difference_keeps_its_sign(points, text):
    assert format_difference(points) == text
