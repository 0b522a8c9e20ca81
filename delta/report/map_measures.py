"""Activation maps in numbers: how concentrated they are, and how like L2-SP's."""

from __future__ import annotations

import pandas as pd

from delta.report.names import features

COMPARED = ["delta_wo_att", "delta"]


def likeness(maps: pd.DataFrame) -> pd.Series:
    """The mean correlation with L2-SP's maps, by method: DELTA without and with attention; empty where there is none.

    Both means are over the same maps, those that have a contrast in all three networks.

    Args:
        maps: label, path, map, method, correlation, of one data set and backbone.
    """
    wide = maps.pivot(index=["label", "path", "map"], columns="method", values="correlation")
    return wide.reindex(columns=COMPARED).dropna().mean().dropna()


def concentration(maps: pd.DataFrame) -> tuple[pd.Series, str]:
    """The share of the image on which a map is above half of its range, in percent, and what was left out.

    A map without contrast is above it nowhere and tells nothing of where a network looks.

    Args:
        maps: method, area, of one data set and backbone.

    Returns:
        The means by method, of those that have a map with contrast; and a clause that begins with a semicolon, or
        nothing where all maps have one.
    """
    alive = maps["area"] > 0
    means = maps[alive].groupby("method", sort=False)["area"].mean()
    flat = maps[~alive].groupby("method", sort=False).size()
    each = maps["method"].value_counts()
    counts = [f"{number} of {features(method)}'s {each[method]}" for method, number in flat.items()]
    return means, f"; without contrast and left out: {', '.join(counts)}" if counts else ""
