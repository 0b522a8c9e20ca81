"""Recommending one network for a data set, by cross-validation on its training images alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.special import softmax

from delta.analysis.calibration import calibration_error, cross_fitted, fit_temperature
from delta.analysis.comparison import Comparison, Entrant, Source
from delta.analysis.race import Outcomes, joined, lead, most_accurate, race, winner, worth_challenging
from delta.analysis.recommend_config import Recommend
from delta.analysis.recommendation import CROSS_VALIDATED, Recommendation, Unknown, interval
from delta.analysis.unknown import choose_threshold, write_class_means
from delta.io.errors import UserError
from delta.io.signals import say
from delta.methods.base import Method
from delta.networks.devices import deterministic
from delta.training.checkpoint import Checkpoint
from delta.training.config import Training
from delta.training.predictions import predictions, write_predictions
from delta.training.result import RunResult


def recommend(
    out: Path,
    sources: Mapping[str, Source],
    methods: Mapping[str, Method],
    settings: Recommend,
    training: Training,
    normalization: str,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
) -> str:
    """Find the best network for a data set, train it on all training images, and write it into the folder `out`.

    The candidates race on stratified folds of the training images (see `delta.analysis.race`): the probes first, then
    everything that is fine-tuned, with the probe's head to start from. The heads, L2-FE and the attention are fitted on
    a fold's training part only. The winner is trained on all training images as it was compared, with the same number
    of epochs, and tested once; before, no test image is read.

    Written are the files of a run (see `delta.training.run.write_run`), with calibrated probabilities, and
    `recommendation.json`, `cross_validated.csv` (what the winner says of each training image when it is trained without
    it, see `delta.training.predictions`), `class_means.safetensors` (see `delta.analysis.unknown`) and, for a winner
    with attention, `channel_weights.csv`.

    Args:
        sources: by backbone, for each of `settings.backbones`.
        methods: with their sections' parameters, for each of `settings.methods`, the probe and L2-FE.
        training: shortened or prolonged to `settings.epochs`.
        normalization: of the attention, see `delta.attention.normalization.attention`.
        device: where to train.
        checkpoint: saves finished folds; the run in training has its own checkpoint beside it, `run`. Remove both
            after `out` has been renamed into place.

    Returns:
        What was found, in a few lines.

    Raises:
        UserError: an input cannot be read, a class has too few images, or all candidates or the winner diverge.
    """
    started = time.monotonic()
    with deterministic():
        comparison = Comparison(sources, methods, settings, training, normalization, device, checkpoint)
        entrants, targets = comparison.entrants, comparison.targets
        at_once = sum(entrant.is_probe for entrant in entrants)
        outcomes = race(entrants, at_once, settings.folds, comparison.outcomes, comparison.trial)
        best = winner(entrants, outcomes, settings.folds)
        logits, similarities = (each.double().numpy() for each in comparison.cross_validated(best))
        if not np.isfinite(logits).all():
            raise UserError(f"{comparison.name(best)} diverges: lower backbones.{best.backbone}.learning_rate")
        temperature = fit_temperature(logits, targets.numpy())
        reason = explain(best, entrants, outcomes, settings.folds, comparison.name, comparison.trial)
        say(f"{comparison.name(best)} is trained on all training images. {reason}")
        means = comparison.write_run(out, best, temperature)
    write_class_means(out, means)
    data = sources[best.backbone].data
    paths, calibrated = data.index["path"].iloc[data.rows("train")], torch.from_numpy(logits / temperature)
    write_predictions(out, predictions(list(paths), calibrated, targets, data.classes), CROSS_VALIDATED)
    low, high = interval(int(joined(outcomes[best]).sum()), len(targets))
    threshold = choose_threshold(similarities)
    recommendation = Recommendation(
        candidates=[comparison.candidate(each, len(outcomes[each])) for each in ranked(best, outcomes)],
        low=low,
        high=high,
        images=len(targets),
        folds=settings.folds,
        temperature=temperature,
        calibration_error=calibration_error(cross_fitted(logits, targets.numpy(), comparison.folds), targets.numpy()),
        calibration_error_before=calibration_error(softmax(logits, axis=1), targets.numpy()),
        unknown=Unknown(threshold=threshold, kept=float(100 * (similarities >= threshold).mean())),
        reason=reason,
    )
    recommendation.write(out)
    return summary(recommendation, RunResult.read(out), comparison.name(best), time.monotonic() - started)


def summary(recommendation: Recommendation, tested: RunResult, name: str, seconds: float) -> str:
    """What was found, in a few lines.

    Args:
        tested: the winner's test on the test images.
        name: of the winner, in words.
        seconds: how long it took.
    """
    validated = recommendation.winner.top1
    return (
        f"Recommended: {name}, {tested.source_network}. {recommendation.reason}\n"
        f"Cross-validated on {recommendation.images:,} training images: {validated:.1f} % "
        f"[{recommendation.low:.1f}, {recommendation.high:.1f}]\n"
        f"On test images, which chose nothing: {tested.top1:.1f} %\n"
        f"{seconds:.0f} seconds"
    )


def ranked(best: Entrant, outcomes: Outcomes[Entrant]) -> list[Entrant]:
    """The entrants that have run: the best, and the others by their accuracy on the folds that they have run."""
    others = [entrant for entrant in outcomes if entrant != best]
    return [best, *sorted(others, key=lambda entrant: -joined(outcomes[entrant]).mean())]


def explain(
    best: Entrant,
    entrants: Sequence[Entrant],
    outcomes: Outcomes[Entrant],
    folds: int,
    name: Callable[[Entrant], str],
    trial: Entrant | None,
) -> str:
    """Why an entrant has won its race, in a sentence.

    Args:
        name: of an entrant, in words.
        trial: who runs the trial, see `delta.analysis.race.race`.
    """
    if len(entrants) == 1:
        return "It is the only candidate."
    finished, right = [each for each in entrants if len(outcomes.get(each, ())) == folds], joined(outcomes[best])
    if len(outcomes) < len(entrants) and worth_challenging(right):
        assert trial
        return f"On one fold, {name(trial)} is no more accurate than {name(best)}, so nothing else was fine-tuned."
    if len(outcomes) < len(entrants):
        errors = int((~right).sum())
        return (
            f"{name(best)} is wrong on {errors} of {len(right):,} held-out images: not even a network without an error "
            "could be settled to be better, so nothing was fine-tuned."
        )
    if cheaper := finished[: finished.index(best)]:
        rival = most_accurate(cheaper, outcomes, folds)
        gain, ahead = 100 * (right.mean() - joined(outcomes[rival]).mean()), lead(right, joined(outcomes[rival]))
        return f"It is more accurate than {name(rival)} by {gain:.1f} points, {ahead:.1f} standard errors."
    return "No other candidate was more accurate in the folds that it ran."
