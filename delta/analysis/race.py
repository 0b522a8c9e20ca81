"""Which of several classifiers is the best, by cross-validation, without training all of them on all folds.

An entrant's outcomes are booleans: whether it classifies a held-out image correctly. Two entrants are compared on the
images that both have seen held out. Of these, let b be those that only the one gets right, and c those that only the
other does. Under the hypothesis that both are equally good, b - c has mean 0 and standard deviation √(b + c) (McNemar
1947), so the one leads by (b - c) / √(b + c) standard errors. Four rules follow:

- **The winner** is the most accurate entrant, and of equals the cheapest. Cheaper ones get no advantage beyond that:
  on a part of the images, as here, fine-tuning is rather worse off than it will be on all of them.
- **The start**: the entrants that cost nothing to compare come first. Nothing else is trained if not even a network
  without any error could be settled to be better than the best of these: if that one makes e errors, so that b = e and
  c = 0, and McNemar's exact test has p = 2 · 0.5ᵉ ≥ 0.05 (up to five errors), or if e is less than half a percent.
- **The trial**: one of the others is trained briefly, on the first fold alone. Nothing else is trained unless it gets
  more of that fold right than the best of those that cost nothing.
- **After each fold**, an entrant is dropped if the most accurate one leads it by more than one standard error. That is
  early for a decision between equals, of which it matters little which one wins. It is also dropped if it could not
  get ahead of a finished entrant even with every remaining image right. The race ends when no unfinished entrant is
  more accurate than the best of the finished ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

SETTLED = 0.05  # the p-value below which a difference counts as settled
LEAST_GAIN = 0.5  # percentage points
E = TypeVar("E")

Outcomes = Mapping[E, Sequence[np.ndarray]]  # by entrant, bool [n] for each fold that it has run


def race(
    entrants: Sequence[E],
    at_once: int,
    folds: int,
    run: Callable[[E, int], np.ndarray],
    trial: E | None = None,
) -> dict[E, list[np.ndarray]]:
    """Run entrants fold by fold for as long as they may win, see the module's docstring.

    Args:
        entrants: from the cheapest to the most expensive.
        at_once: so many of the first ones cost nothing to speak of, and run all folds before the others start.
        folds: how many there are.
        run: whether the entrant classifies each held-out image of the fold correctly, bool [n]; called once a pair.
        trial: who runs the trial, which is none of the entrants; None for no trial.

    Returns:
        The outcomes of each entrant that has run, by fold.
    """
    finished, rest = list(entrants[:at_once]), list(entrants[at_once:])
    outcomes = {entrant: [run(entrant, fold) for fold in range(folds)] for entrant in finished}
    if finished and rest:
        best = outcomes[most_accurate(finished, outcomes, folds)]
        if not worth_challenging(joined(best)) or (trial and lead(run(trial, 0), best[0]) <= 0):
            return outcomes
    for fold in range(folds):
        for entrant in rest:
            outcomes.setdefault(entrant, []).append(run(entrant, fold))
        leader = most_accurate([*finished, *rest], outcomes, fold + 1)
        if leader in finished:
            break
        rest = [entrant for entrant in rest if _stays(entrant, leader, finished, outcomes, fold + 1)]
    return outcomes


def winner(entrants: Sequence[E], outcomes: Outcomes[E], folds: int) -> E:
    """The most accurate entrant of those with all folds, and of equals the cheapest.

    Args:
        entrants: from the cheapest to the most expensive.
    """
    finished = [entrant for entrant in entrants if len(outcomes.get(entrant, ())) == folds]
    return most_accurate(finished, outcomes, folds)


def lead(one: np.ndarray, other: np.ndarray) -> float:
    """By how many standard errors `one` is ahead of `other`: (b - c) / √(b + c), 0 where they never differ.

    Args:
        one, other: outcomes on the same images, bool [n].
    """
    ahead, behind = int((one & ~other).sum()), int((other & ~one).sum())
    return (ahead - behind) / max(1, ahead + behind) ** 0.5


def worth_challenging(outcomes: np.ndarray) -> bool:
    """Whether an entrant without any error could be settled to be better than one with these outcomes, bool [n]."""
    errors = int((~outcomes).sum())
    return 2 * 0.5**errors < SETTLED and 100 * errors / len(outcomes) >= LEAST_GAIN


def most_accurate(entrants: Sequence[E], outcomes: Outcomes[E], folds: int) -> E:
    """The entrant with the most images right in the first `folds` folds; of equals, the first."""
    return max(entrants, key=lambda entrant: joined(outcomes[entrant][:folds]).sum())


def joined(outcomes: Sequence[np.ndarray]) -> np.ndarray:
    """The outcomes of several folds as one array."""
    return np.concatenate(outcomes)


def _stays(entrant: E, leader: E, finished: Sequence[E], outcomes: Outcomes[E], folds: int) -> bool:
    """Whether an entrant that has run so many folds runs another one."""
    own = joined(outcomes[entrant])
    if lead(joined(outcomes[leader][:folds]), own) > 1:
        return False
    rivals = (joined(outcomes[each]) for each in finished)
    return all(own.sum() + len(rival) - len(own) > rival.sum() for rival in rivals)
