"""Whether a difference between two methods is more than the seeds' scatter."""

from __future__ import annotations

import pandas as pd
from scipy.stats import t

REFERENCE = "l2_sp"
LEAST_SEEDS = 3


def paired_differences(results: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Each method's top-1 minus L2-SP's, paired by seed, with Student's confidence interval of the mean.

    Both runs of a pair share the order of the images, their crops and the classifier's start. Two pairs give an
    interval too wide to mean anything (t = 12.7), so it takes three.

    Args:
        results: see `delta.report.results.read_results`.

    Returns:
        dataset, backbone, method, difference, low, high (percentage points): no row for L2-SP itself or where it was
        not run; low and high are NaN with fewer than three seeds.
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


def excludes_zero(low: float, high: float) -> bool:
    """Whether an interval lies on one side of 0; none does not."""
    return low > 0 or high < 0


def plus_minus(mean: float, std: float, digits: int = 1) -> str:
    """A mean and its deviation: "78.4 ± 0.1"; without the deviation that one seed has not."""
    return f"{mean:.{digits}f}" if pd.isna(std) else f"{mean:.{digits}f} ± {std:.{digits}f}"


def count(mean: float, std: float) -> str:
    """A number of things, averaged over the seeds: "57.3 ± 1.2"; one seed's is whole."""
    return plus_minus(mean, std, digits=0 if pd.isna(std) else 1)


def signed(points: float) -> str:
    """A difference in percentage points with its sign: "+3.2"; to two digits where one would hide it, "−0.04"."""
    text = f"{points:+.1f}"
    if float(text) == 0:
        text = f"{points:+.2f}" if round(points, 2) else "0.0"
    return text.replace("-", "−")


def correlation(value: float) -> str:
    """A correlation to two digits: "0.83", "−0.20"."""
    return f"{value:z.2f}".replace("-", "−")
