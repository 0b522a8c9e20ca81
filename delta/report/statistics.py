"""Differences between methods with their confidence intervals, and how numbers are printed."""

from __future__ import annotations

import pandas as pd
from scipy.stats import t

from delta.analysis.map_files import REFERENCE

LEAST_SEEDS = 3


def paired_differences(results: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Each method's top-1 minus L2-SP's, paired by seed, with Student's confidence interval of the mean difference.

    Runs of one seed share the order of the images, their crops and the classifier's initialisation. Of two pairs the
    interval would be uselessly wide (t = 12.7), so it takes three.

    Args:
        results: dataset, backbone, method, seed and top1 (percent), one row per run.

    Returns:
        dataset, backbone, method, difference, low, high (percentage points), without rows for L2-SP itself and where
        L2-SP was not run; low and high are NaN with fewer than three seeds.
    """
    wide = results.pivot(index=["dataset", "backbone", "seed"], columns="method", values="top1")
    rows = []
    for method in wide.columns.drop(REFERENCE, errors="ignore") if REFERENCE in wide else ():
        for (dataset, backbone), pairs in (wide[method] - wide[REFERENCE]).dropna().groupby(["dataset", "backbone"]):
            mean, margin = pairs.mean(), float("nan")
            if len(pairs) >= LEAST_SEEDS:
                margin = t.ppf((1 + confidence) / 2, len(pairs) - 1) * pairs.std() / len(pairs) ** 0.5
            rows.append((dataset, backbone, method, mean, mean - margin, mean + margin))
    return pd.DataFrame(rows, columns=["dataset", "backbone", "method", "difference", "low", "high"])


def is_significant(low: float, high: float) -> bool:
    """Whether a confidence interval excludes 0; False where it is NaN."""
    return low > 0 or high < 0


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


def format_correlation(value: float) -> str:
    """A correlation with two digits: "0.83", "−0.20"."""
    return f"{value:z.2f}".replace("-", "−")
