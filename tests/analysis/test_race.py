"""The race: its rules on made-up outcomes, against definitions written out, exact tests of SciPy and all folds."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from delta.analysis.race import joined, lead, most_accurate, race, winner, worth_challenging

FOLDS, SIZE = 3, 40


def bits(text: str) -> np.ndarray:
    return np.array([letter == "1" for letter in text])


def made_up(rates: dict[str, float], seed: int, size: int = SIZE) -> dict[str, list[np.ndarray]]:
    """Outcomes with these rates of success, by fold."""
    noise = np.random.default_rng(seed)
    return {name: [noise.random(size) < rate for _ in range(FOLDS)] for name, rate in rates.items()}


def run_race(
    outcomes: dict[str, list[np.ndarray]], at_once: int, trial: np.ndarray | None = None
) -> tuple[dict[str, list[np.ndarray]], list[tuple[str, int]]]:
    calls = []

    def run(name: str, fold: int) -> np.ndarray:
        calls.append((name, fold))
        return outcomes[name][fold] if trial is None or name != "trial" else trial

    return race(list(outcomes), at_once, FOLDS, run, None if trial is None else "trial"), calls


def test_the_lead_is_mcnemars_statistic():
    """Of eight images the one alone is right on three and the other alone on one: 2 / √4."""
    assert lead(bits("11100011"), bits("00010011")) == 1
    assert lead(bits("00010011"), bits("11100011")) == -1
    assert lead(bits("1100"), bits("1100")) == 0
    one, other = made_up({"one": 0.8, "other": 0.6}, seed=0, size=500).values()
    alone = [int((a & ~b).sum()) for a, b in ((one[0], other[0]), (other[0], one[0]))]
    chi_squared = (alone[0] - alone[1]) ** 2 / sum(alone)  # McNemar 1947
    assert lead(one[0], other[0]) == pytest.approx(math.sqrt(chi_squared))


@pytest.mark.parametrize("images", [20, 300, 3000])
def test_a_challenge_is_worth_it_where_perfection_could_be_settled(images):
    for errors in range(0, 20):
        outcomes = np.arange(images) >= errors
        settled = errors > 0 and binomtest(errors, errors).pvalue < 0.05
        assert worth_challenging(outcomes) == (settled and errors / images >= 0.005)


def test_the_winner_is_the_cheapest_of_the_most_accurate():
    """Written out: of those with all folds, none is more accurate, and none that costs less is as accurate."""
    for seed in range(200):
        outcomes = made_up({"a": 0.8, "b": 0.8, "c": 0.85, "d": 0.9}, seed)
        outcomes["c"] = outcomes["c"][: 1 + seed % 3]
        found = winner("abcd", outcomes, FOLDS)
        right = {name: sum(map(sum, each)) for name, each in outcomes.items() if len(each) == FOLDS}
        assert found in right
        assert all(right[name] < right[found] for name in right if name < found)
        assert all(right[name] <= right[found] for name in right)


def test_equals_go_to_the_cheapest():
    same = [bits("110"), bits("011"), bits("101")]
    assert winner(["probe", "l2"], {"probe": same, "l2": same}, FOLDS) == "probe"
    assert most_accurate(["l2", "probe"], {"probe": same, "l2": same}, FOLDS) == "l2"


def test_nothing_is_trained_if_nothing_could_be_settled():
    outcomes = {"probe": [np.ones(100, bool), np.arange(100) >= 5, np.ones(100, bool)], "l2": [np.ones(100, bool)] * 3}
    ran, calls = run_race(outcomes, at_once=1)
    assert list(ran) == ["probe"]
    assert calls == [("probe", fold) for fold in range(FOLDS)]
    outcomes["probe"][0] = np.arange(100) >= 1  # the sixth error
    ran, _ = run_race(outcomes, at_once=1)
    assert winner(list(outcomes), ran, FOLDS) == "l2"


def test_nothing_else_is_trained_unless_the_trial_gets_more_of_the_first_fold_right():
    """The first fold's ten errors decide, whatever the other folds are, and the trial's network is no entrant."""
    probe = [np.arange(SIZE) >= 10, np.arange(SIZE) >= 20, np.arange(SIZE) >= 0]
    outcomes = {"probe": probe, "l2": [np.ones(SIZE, bool)] * FOLDS}
    for errors in range(SIZE):
        for moved in (0, 5):  # the same images as the probe's, or others
            ran, calls = run_race(outcomes, at_once=1, trial=np.roll(np.arange(SIZE) >= errors, moved))
            assert calls[: FOLDS + 1] == [*(("probe", fold) for fold in range(FOLDS)), ("trial", 0)]
            assert list(ran) == (["probe", "l2"] if errors < 10 else ["probe"])


def test_there_is_no_trial_where_nothing_depends_on_it():
    """Where the probe makes no error, or nothing else could win, or nothing costs nothing."""
    perfect, poor, better = np.ones(SIZE, bool), np.arange(SIZE) >= 20, np.arange(SIZE) >= 10
    for outcomes, at_once in (
        ({"probe": [perfect] * FOLDS, "l2": [perfect] * FOLDS}, 1),
        ({"probe": [poor] * FOLDS}, 1),
        ({"l2": [poor] * FOLDS, "delta": [better] * FOLDS}, 0),
    ):
        _, calls = run_race(outcomes, at_once, trial=perfect)
        assert "trial" not in dict(calls)


def test_the_race_ends_when_no_unfinished_entrant_is_ahead():
    probe = [np.arange(SIZE) >= 10] * FOLDS
    equal = [~np.flip(each) | (np.arange(SIZE) < SIZE - 20) for each in probe]
    assert equal[0].sum() <= probe[0].sum()
    ran, calls = run_race({"probe": probe, "l2": equal, "delta": equal}, at_once=1)
    assert {name: len(each) for name, each in ran.items()} == {"probe": 3, "l2": 1, "delta": 1}
    assert calls[3:] == [("l2", 0), ("delta", 0)]


def test_who_is_behind_by_more_than_a_standard_error_runs_no_other_fold():
    for seed in range(100):
        outcomes = made_up({"probe": 0.6, "l2": 0.55, "l2_sp": 0.7, "delta": 0.8}, seed)
        ran, _ = run_race(outcomes, at_once=1)
        names = list(outcomes)
        for fold in range(1, FOLDS):
            before = [name for name in names if len(ran[name]) >= fold]
            leader = most_accurate(before, ran, fold)
            for name in before[1:]:
                if leader == "probe" or lead(joined(ran[leader][:fold]), joined(ran[name][:fold])) > 1:
                    assert len(ran[name]) == fold
        assert all(np.array_equal(each, outcomes[name][fold]) for name in ran for fold, each in enumerate(ran[name]))


def test_who_cannot_catch_up_is_dropped():
    """By brute force over all ends of the race: whoever was dropped could not have got ahead of the probe."""
    probe = [bits("1111101"), bits("1110"), bits("1111")]
    for first in product("01", repeat=7):
        own = bits("".join(first))
        ran, _ = run_race({"probe": probe, "l2": [own, bits("1111"), bits("1111")]}, at_once=1)
        if not worth_challenging(joined(probe)):
            assert list(ran) == ["probe"]
    many = [np.arange(20) >= 3, np.arange(20) >= 2, np.arange(20) >= 1]  # six errors
    for wrong, right in product(range(0, 8), range(0, 4)):
        own = many[0].copy()
        own[:right], own[len(own) - wrong :] = True, False
        ran, _ = run_race({"probe": many, "l2": [own, *[np.ones(20, bool)] * 2]}, at_once=1)
        ahead = own.sum() > many[0].sum()
        may_win = any(own.sum() + 40 - missed > joined(many).sum() for missed in range(3))
        assert (len(ran["l2"]) > 1) == (ahead and may_win)


def test_without_entrants_that_cost_nothing_someone_always_finishes():
    for seed in range(50):
        outcomes = made_up({"l2": 0.5, "l2_sp": 0.6, "delta": 0.7}, seed)
        ran, _ = run_race(outcomes, at_once=0)
        assert len(ran[winner(list(outcomes), ran, FOLDS)]) == FOLDS


def test_a_much_better_entrant_wins_and_equal_ones_seldom_do():
    wins = {"probe": 0, "l2": 0, "delta": 0}
    for seed in range(300):
        outcomes = made_up({"probe": 0.7, "l2": 0.7, "delta": 0.95}, seed)
        wins[winner(list(outcomes), run_race(outcomes, at_once=1)[0], FOLDS)] += 1
    assert wins["delta"] > 290
