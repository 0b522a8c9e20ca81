"""The claims on training: the learning curves of Figure 3, and the grid search of Figure 4."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from delta.report import paper
from delta.report.statistics import LEAST_SEEDS, seed_interval
from delta.report.verdicts import (
    LESS,
    MORE,
    Claim,
    Outcome,
    Rule,
    Verdict,
    all_of,
    check_claim,
    combined,
    describe,
    is_empty,
    judge_sample,
    no_interval,
)

SMOOTHNESS_EPOCHS = 4
UNMOVED = 1.0  # percentage points by which the drop of the learning rate may move a curve that it leaves as it is
SAME_ACCURACY = 1.0  # percentage points from the paper's accuracy that count as the same
BY_SEED = "The 95 % confidence interval is Student's over the seeds alone, which are paired."
BY_FOLD = (
    "The 95 % confidence interval is Student's over the folds, which are paired; they share training images, so it is "
    "approximate."
)


def curve_claims(curves: pd.DataFrame | None) -> list[Claim]:
    """The claims on Figure 3.

    Args:
        curves: `reports/plots/learning_curves.csv`.
    """
    source = "Section 4.3, Figure 3"
    no_data = "no learning curves in this run"
    faster = [
        check_claim(
            f"DELTA converges faster than L2-SP under {schedule}.",
            source,
            "The mean of the test top-1 over the epochs, which is the area under the learning curve by its length: "
            f"supported where the difference's interval lies above 0, contradicted where at or below. {BY_SEED}",
            curves,
            no_data,
            partial(_converges_faster, schedule=schedule),
        )
        for schedule in ("StepLR", "ExponentialLR")
    ]
    smoother = check_claim(
        "DELTA's learning curve is smoother than L2-SP's.",
        source,
        "The mean absolute second difference of the test top-1 over whole epochs: supported where the difference's "
        f"interval lies below 0 under every schedule of the run, contradicted where at or above 0 under one. {BY_SEED}",
        curves,
        no_data,
        _is_smoother,
    )
    unmoved = check_claim(
        "The drop of the learning rate under StepLR leaves DELTA's curve as it is.",
        source,
        "How much the test top-1 changes from the last test before the drop to the first one at least an epoch after "
        f"it: supported where the interval lies within ±{UNMOVED:g} point, contradicted where outside. {BY_SEED}",
        curves,
        no_data,
        _is_unmoved,
    )
    return [*faster, smoother, unmoved]


def grid_claims(grid: pd.DataFrame | None, scale: str | None) -> list[Claim]:
    """The claims on Figure 4.

    Args:
        grid: `reports/plots/grid.csv`; of other methods than DELTA the paper says nothing.
        scale: DELTA's `scale` in params.yaml; None for a run without DELTA.
    """
    source = "Section 4.2, Figure 4"
    no_data = "no grid search for DELTA in this run"
    grid = None if is_empty(grid) else grid[grid["method"] == "delta"]
    # On another scale than the paper's, the same α is another penalty.
    foreign = "" if scale in (None, paper.SCALE) else f"with scale: {scale}, α is not the paper's α"

    def at_papers_scale(check: Callable[[pd.DataFrame], Outcome]) -> Callable[[pd.DataFrame], Outcome]:
        return lambda rows: foreign or check(rows)

    return [
        check_claim(
            "Accuracy rises with β, then falls sharply, alike for all α.",
            source,
            "The peak is the value of β with the highest mean over all α, and has to be neither the smallest nor the "
            "largest. For each α the accuracy at the peak minus that at the smallest β, and the accuracy at the "
            "smallest β minus that at the largest: supported where all intervals lie above 0, contradicted where one "
            "lies at or below 0, or where the smallest or the largest β is the peak and its interval above every value "
            f"between them lies above 0. Values of α with a cell that diverged are left out. {BY_FOLD}",
            grid,
            no_data,
            _rises_then_falls,
        ),
        check_claim(
            f"α = β = {paper.ALPHA:g} is the best cell of the grid.",
            source,
            "This cell minus the best of the others: supported where the interval lies above 0, contradicted where at "
            f"or below 0, or where the cell diverged on a fold and another did not. {BY_FOLD}",
            grid,
            no_data,
            at_papers_scale(_paper_pair_is_best),
        ),
        check_claim(
            f"The best accuracy of the grid is {paper.GRID_BEST:g} %.",
            source,
            f"On Caltech 256-60 with ResNet-101 alone, whose grid it is: the cell α = β = {paper.ALPHA:g} minus "
            f"{paper.GRID_BEST:g}, supported where the interval lies within ±{SAME_ACCURACY:g} point, contradicted "
            f"where it lies outside. {BY_FOLD}",
            grid,
            no_data,
            at_papers_scale(_best_accuracy),
        ),
    ]


def _converges_faster(rows: pd.DataFrame, schedule: str) -> Outcome:
    means = _by_seed(rows[rows["schedule"] == schedule], _mean_over_epochs)
    if means is None:
        return f"no learning curves of both L2-SP and DELTA under {schedule}"
    verdict, text = judge_sample(means["delta"] - means["l2_sp"], MORE, "seed")
    return verdict, f"DELTA {means['delta'].mean():.1f}, L2-SP {means['l2_sp'].mean():.1f}: {text}"


def _is_smoother(rows: pd.DataFrame) -> Outcome:
    rows = rows[rows["epoch"] % 1 == 0]
    parts = []
    for schedule, curves in rows.groupby("schedule", sort=False):
        if curves.groupby(["method", "seed"]).size().min() < SMOOTHNESS_EPOCHS:
            continue
        if (found := _by_seed(curves, _roughness)) is None:
            continue
        verdict, text = judge_sample(found["delta"] - found["l2_sp"], LESS, "seed", digits=2)
        means = f"DELTA {found['delta'].mean():.2f}, L2-SP {found['l2_sp'].mean():.2f}"
        parts.append((verdict, f"{schedule} {means}: {text}"))
    return all_of(parts) if parts else "no schedule with learning curves of L2-SP and DELTA over four whole epochs"


def _is_unmoved(rows: pd.DataFrame) -> Outcome:
    rows = rows[rows["schedule"] == "StepLR"]
    delta, l2_sp = (_moves(rows[rows["method"] == method]) for method in ("delta", "l2_sp"))
    if not delta:
        return "no learning curve of DELTA under StepLR with tests on both sides of the drop"
    verdict, text = judge_sample(delta, Rule(-UNMOVED, UNMOVED), "seed")
    beside = f"; L2-SP {describe(seed_interval(l2_sp), len(l2_sp), 'seed')}" if l2_sp else ""
    return verdict, f"DELTA {text}{beside}"


def _moves(curves: pd.DataFrame) -> list[float]:
    """How much each seed's curve changes at the drop, of the seeds with a test on both sides."""
    moves = [_move_at_drop(curve) for _, curve in curves.groupby("seed")]
    return [move for move in moves if not np.isnan(move)]


def _move_at_drop(curve: pd.DataFrame) -> float:
    """How much top-1 changes where the learning rate drops; NaN without a test on both sides."""
    curve = curve.sort_values("epoch")
    drop = curve["drop_epoch"].iloc[0]
    before, after = curve[curve["epoch"] <= drop], curve[curve["epoch"] >= drop + 1]
    return after["top1"].iloc[0] - before["top1"].iloc[-1] if len(before) and len(after) else float("nan")


def _by_seed(rows: pd.DataFrame, of_curve: Callable[[pd.DataFrame], float]) -> pd.DataFrame | None:
    """A number of each seed's learning curves of L2-SP and of DELTA; None where no seed has both."""
    curves = rows.sort_values("epoch").groupby(["seed", "method"])
    numbers = pd.Series({keys: of_curve(curve) for keys, curve in curves}, dtype=float)
    if numbers.empty:
        return None
    both = numbers.unstack().reindex(columns=["l2_sp", "delta"]).dropna()
    return None if both.empty else both


def _mean_over_epochs(curve: pd.DataFrame) -> float:
    """The mean of top-1 over the epochs, by the trapezoidal rule, as the last epoch may be shorter."""
    epoch, top1 = curve["epoch"].to_numpy(float), curve["top1"].to_numpy(float)
    return np.trapezoid(top1, epoch) / (epoch[-1] - epoch[0]) if len(epoch) > 1 else top1[0]


def _roughness(curve: pd.DataFrame) -> float:
    """The mean absolute second difference of top-1."""
    return np.abs(np.diff(curve["top1"].to_numpy(float), 2)).mean()


def _folds(rows: pd.DataFrame) -> pd.DataFrame:
    """Top-1, percent, a row for each α and β, a column for each fold; NaN where a fold diverged."""
    return rows.pivot(index=["alpha", "beta"], columns="fold", values="top1")


def _rises_then_falls(rows: pd.DataFrame) -> Outcome:
    folds = _folds(rows)
    betas = sorted(set(rows["beta"]))
    if len(betas) < 3:
        return "the grid has fewer than three values of β"
    failed = set(folds[folds.isna().any(axis=1)].index.get_level_values("alpha"))
    complete = [alpha for alpha in sorted(set(rows["alpha"])) if alpha not in failed]
    if not complete:
        return "no value of α without a cell that diverged"
    means = folds.loc[complete].mean(axis=1).groupby("beta").mean()
    peak = means.idxmax()
    curve = ", ".join(f"{mean:.1f} at β = {beta:g}" for beta, mean in means.items())
    if peak in (betas[0], betas[-1]):
        by_beta = folds.loc[complete].groupby("beta").mean()
        beaten = [MORE.judge(seed_interval(by_beta.loc[peak] - by_beta.loc[beta])) for beta in betas[1:-1]]
        everywhere = all(verdict is Verdict.SUPPORTED for verdict in beaten)
        return Verdict.CONTRADICTED if everywhere else Verdict.NOT_SETTLED, f"mean over α {curve}"
    verdicts = []
    for alpha in complete:
        first, top, last = (folds.loc[alpha, beta].to_numpy() for beta in (betas[0], peak, betas[-1]))
        verdicts += [MORE.judge(seed_interval(top - first)), MORE.judge(seed_interval(first - last))]
    agree = sum(verdict is Verdict.SUPPORTED for verdict in verdicts)
    few = f" ({no_interval(folds.shape[1], 'fold')})" if folds.shape[1] < LEAST_SEEDS else ""
    return combined(verdicts), f"mean over α {curve}; {agree} of {len(verdicts)} steps as claimed{few}"


def _paper_pair_is_best(rows: pd.DataFrame) -> Outcome:
    folds = _folds(rows)
    pair = f"α = β = {paper.ALPHA:g}"
    here = [cell for cell in folds.index if np.allclose(cell, (paper.ALPHA, paper.BETA))]
    if not here or len(folds) == 1:
        return f"the grid has no {'other cell than' if here else 'cell'} {pair}"
    others = folds.drop(index=here).dropna()
    own = folds.loc[here[0]]
    if others.empty:
        return "every other cell diverged"
    best = others.mean(axis=1).idxmax()
    found = f"the best other is α = {best[0]:g}, β = {best[1]:g} with {others.loc[best].mean():.1f}"
    if own.isna().any():
        return Verdict.CONTRADICTED, f"{pair} diverged; {found}"
    verdict, text = judge_sample(own - others.loc[best], MORE, "fold")
    return verdict, f"{pair} has {own.mean():.1f}; {found}: {text}"


def _best_accuracy(rows: pd.DataFrame) -> Outcome:
    dataset, backbone = rows[["dataset", "backbone"]].iloc[0]
    if (dataset, backbone) != paper.GRID_PAIR:
        return "the paper's number is of Caltech 256-60 with ResNet-101"
    folds = _folds(rows)
    here = [cell for cell in folds.index if np.allclose(cell, (paper.ALPHA, paper.BETA))]
    if not here:
        return f"the grid has no cell α = β = {paper.ALPHA:g}"
    own = folds.loc[here[0]]
    if own.isna().any():
        return Verdict.CONTRADICTED, f"α = β = {paper.ALPHA:g} diverged"
    verdict, text = judge_sample(own - paper.GRID_BEST, Rule(-SAME_ACCURACY, SAME_ACCURACY), "fold")
    return verdict, f"{own.mean():.1f} against {paper.GRID_BEST:g}: {text}"
