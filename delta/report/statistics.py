"""Differences between methods with their confidence intervals, and how numbers are printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import chi2, t

# Of two seeds an interval would be uselessly wide: Student's factor is 12.7, with three it is 4.3.
LEAST_SEEDS = 3

# Both found by simulation, see `two_way_errors` and tests/report/test_coverage.py.
UPPER_LIMIT = 0.75
LEAST_WIDTH = 0.5


@dataclass(frozen=True)
class Interval:
    """A difference with its confidence interval and test.

    Attributes:
        difference: in percentage points, or in the unit of the values compared.
        low, high: the interval's ends, in the same unit; NaN where there is no interval.
        p: two-sided p-value of "the difference is 0", from the interval's own statistic and degrees of freedom, so that
            it is below 1 - confidence exactly where the interval excludes 0; NaN where there is no interval.
    """

    difference: float
    low: float
    high: float
    p: float


def two_way_interval(differences: np.ndarray, confidence: float = 0.95) -> Interval:
    """The difference of two methods' top-1, paired by seed and by test image.

    It speaks of all images that the test set could have had, and of all seeds: both are random. How its standard error
    comes about is told by `two_way_errors`.

    Args:
        differences: [seeds, images], for the same seed and image whether the one method was right (1 or 0) minus
            whether the other was: -1, 0 or 1.
        confidence: the interval's level, between 0 and 1.

    Returns:
        Percentage points. Only the difference, without an interval, where there are fewer than three seeds or there is
        one image. The width is never 0, not even where all differences are.

    Raises:
        ValueError: there are not two dimensions, there is no seed or image, or a value is not within -1 to 1.
    """
    differences = np.asarray(differences, dtype=float)
    if differences.ndim != 2 or not differences.size:
        raise ValueError(f"The differences must be [seeds, images], not of shape {list(differences.shape)}.")
    if not (np.abs(differences) <= 1).all():
        raise ValueError("The differences must be between -1 and 1.")
    seeds, images = differences.shape
    mean = differences.mean()
    if seeds < LEAST_SEEDS or images < 2:
        return _interval(100 * mean)
    margins, p_values = student(mean, *two_way_errors(differences), confidence)
    return _interval(100 * mean, 100 * margins.max(), p_values.max())


def two_way_errors(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The standard errors of the mean over S seeds and n images, both random, crossed, one value for each pair.

    With the mean squares of the analysis of variance, of the seeds (A), the images (B) and the residual (E), the
    variance of the mean is estimated without bias by (Searle, Casella and McCulloch, "Variance Components", chapter 4)

        V = (A + B - E) / (S n)

    and has about as many degrees of freedom as (Satterthwaite 1946)

        (A' + B - E)² / (A'² / (S - 1) + B² / (n - 1) + E² / ((S - 1)(n - 1))),    at least S - 1

    Three things make this hold for few seeds and few disagreements; tests/report/test_coverage.py measures it:

    - A' is the upper 75 % confidence limit of the seeds' mean square, where Satterthwaite has A. Three seeds give an A
      that is often far too small, and then too many degrees of freedom; with A' the error is on neither side.
    - B counts half a pseudo-image of each sign, as Agresti and Min ("Improved confidence intervals for comparing
      matched proportions", 2005) do for one seed, so that few disagreements, or none, are no certainty:
      B = S (Σ_i (d_i - m)² + r) / (n - 1), with d_i an image's mean over the seeds and m the mean. Theirs is r = 1,
      which is right where the seeds agree. The less they do, the less an image weighs in B: r is the images' share of
      the sum of squares, the pseudo-image included, (Σ_i d_i² + 1) / (Σ_si d_si² / S + 1).
    - Where A happens to be next to 0, V may be, too, or be negative; it is no certainty, either. So there is a second
      error, half of what the images alone give, sqrt(B / (S n)) / 2 with n - 1 degrees of freedom. Of the two intervals
      the wider one counts, and the larger p. With all of what the images give instead of half, the coverage would be
      up to 99 % where the seeds differ by nothing but noise.

    Args:
        differences: [..., seeds, images], at least two of each; see `two_way_interval`.

    Returns:
        The two standard errors and their degrees of freedom, [2, ...] each.
    """
    seeds, images = differences.shape[-2:]
    of_seeds, of_images, residual = sums_of_squares(differences)
    squares = np.square(differences).sum((-2, -1), dtype=float)
    image_squares = np.square(differences.mean(-2)).sum(-1)
    of_images = of_images + seeds * (image_squares + 1) / (squares / seeds + 1)

    freedom = seeds - 1, images - 1, (seeds - 1) * (images - 1)
    a, b, e = of_seeds / freedom[0], of_images / freedom[1], residual / freedom[2]
    variance = np.maximum(a + b - e, 0)
    upper = a * freedom[0] / chi2.ppf(1 - UPPER_LIMIT, freedom[0])
    satterthwaite = np.maximum(upper + b - e, 0) ** 2 / sum(
        square**2 / f for square, f in zip((upper, b, e), freedom, strict=True)
    )
    errors = np.sqrt(np.stack([variance, LEAST_WIDTH**2 * b]) / (seeds * images))
    return errors, np.stack([np.maximum(satterthwaite, freedom[0]), np.full_like(b, freedom[1])])


def sums_of_squares(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sums of squares of rows, columns and residual in a two-way layout with one value per cell.

    Args:
        values: [..., rows, columns].

    Returns:
        Three arrays [...], with S - 1, n - 1 and (S - 1)(n - 1) degrees of freedom for S rows and n columns.
    """
    rows, columns = values.shape[-2:]
    mean = values.mean((-2, -1))[..., None]
    of_rows = columns * np.square(values.mean(-1) - mean).sum(-1)
    of_columns = rows * np.square(values.mean(-2) - mean).sum(-1)
    total = np.square(values).sum((-2, -1), dtype=float) - rows * columns * mean[..., 0] ** 2
    return of_rows, of_columns, np.maximum(total - of_rows - of_columns, 0)


def seed_interval(differences: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Interval:
    """Student's interval of the mean over the seeds alone, for what has no value per image: areas, counts, ...

    Args:
        differences: one per seed.
        confidence: the interval's level, between 0 and 1.

    Returns:
        In the unit of the differences. Without an interval where there are fewer than three seeds, or where all
        differences are equal: from no scatter nothing can be told about it, least of all that it is 0. All is NaN where
        a difference is, or where there is none.
    """
    values = np.asarray(differences, dtype=float)
    if not values.size:
        return _interval(float("nan"))
    mean, rounding = values.mean(), 1e-12 * np.abs(values).max()
    if values.size < LEAST_SEEDS or np.ptp(values) <= rounding:
        return _interval(mean)
    return _interval(mean, *student(mean, values.std(ddof=1) / values.size**0.5, values.size - 1, confidence))


def welch_interval(
    mean_a: float,
    std_a: float,
    mean_b: float,
    std_b: float,
    runs: int,
    confidence: float = 0.95,
    resolution: float = 0.1,
) -> Interval:
    """The difference a - b of two published means over runs that are not paired, with Welch's degrees of freedom.

    Args:
        mean_a, mean_b: of the runs.
        std_a, std_b: sample standard deviations of the runs, not of their mean; NaN where not published.
        runs: how many each mean is of.
        confidence: the interval's level, between 0 and 1.
        resolution: the unit of the last digit in which the deviations are printed, 0.1 in the paper. A deviation below
            half of it is taken to be half of it, the most that is printed as 0.0, so that no width is 0.

    Returns:
        In the unit of the means. Without an interval where a deviation is NaN or there are fewer than three runs.
    """
    difference = mean_a - mean_b
    if np.isnan([std_a, std_b]).any() or runs < LEAST_SEEDS:
        return _interval(difference)
    a, b = (max(std, resolution / 2) ** 2 / runs for std in (std_a, std_b))
    freedom = (runs - 1) * (a + b) ** 2 / (a**2 + b**2)
    return _interval(difference, *student(difference, (a + b) ** 0.5, freedom, confidence))


def student(
    difference: np.ndarray | float, error: np.ndarray | float, freedom: np.ndarray | float, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Half the width of Student's interval, and the two-sided p-value of "the difference is 0".

    Args:
        difference: an estimate; all arguments are broadcast.
        error: its standard error; with 0 the half width and p are 0.
        freedom: the error's degrees of freedom.
        confidence: the interval's level, between 0 and 1.
    """
    error = np.asarray(error, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(error == 0, 0, 2 * t.sf(np.abs(difference) / error, freedom))
    return t.ppf((1 + confidence) / 2, freedom) * error, p


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """p-values adjusted for being several, by Holm's step-down method ("A simple sequentially rejective multiple test
    procedure", 1979): all those below a level may be called significant. The probability that any of them is so wrongly
    is at most that level, however the tests depend on one another.

    Args:
        p_values: [tests]; a NaN is no test: it stays NaN and does not count.

    Returns:
        [tests], each at least as large as it was and at most 1.
    """
    adjusted = np.array(p_values, dtype=float)
    tests = np.flatnonzero(~np.isnan(adjusted))
    order = tests[np.argsort(adjusted[tests])]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * adjusted[order]), 1)
    return adjusted


def _interval(difference: float, margin: float = float("nan"), p: float = float("nan")) -> Interval:
    """From `margin` below to `margin` above the difference."""
    return Interval(float(difference), float(difference - margin), float(difference + margin), float(p))


def format_mean(mean: float, std: float, digits: int = 1) -> str:
    """A mean and its standard deviation, "78.4 ± 0.1"; the mean alone where the deviation is NaN, nothing for NaN."""
    if pd.isna(mean):
        return ""
    return f"{mean:.{digits}f}" if pd.isna(std) else f"{mean:.{digits}f} ± {std:.{digits}f}"


def format_count(mean: float, std: float) -> str:
    """A count averaged over the seeds, "57.3 ± 1.2"; a whole number where one seed leaves the deviation NaN."""
    return format_mean(mean, std, digits=0 if pd.isna(std) else 1)


def format_difference(points: float) -> str:
    """A difference in percentage points with its sign: "+3.2", or "−0.04" where one digit would be zero."""
    text = f"{points:+.1f}"
    if float(text) == 0:
        text = f"{points:+.2f}" if round(points, 2) else "0.0"
    return text.replace("-", "−")


def format_interval(difference: float, low: float, high: float) -> str:
    """A difference with its confidence interval, "+3.2 [+1.9, +4.5]"; without what is NaN."""
    if pd.isna(difference):
        return ""
    if pd.isna(low):
        return format_difference(difference)
    return f"{format_difference(difference)} [{format_difference(low)}, {format_difference(high)}]"


def format_p(value: float) -> str:
    """A p-value with three digits, "0.012" or "< 0.001"; nothing for NaN."""
    if pd.isna(value):
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def format_correlation(value: float) -> str:
    """A correlation with two digits: "0.83", "−0.20"."""
    return f"{value:z.2f}".replace("-", "−")


def format_duration(seconds: float) -> str:
    """A wall time in its two largest units: "4.2 s", "3 min 12 s", "1 h 05 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02d} min" if hours else f"{minutes} min {rest:02d} s"
