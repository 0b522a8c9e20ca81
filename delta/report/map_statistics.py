"""Activation maps in numbers: how concentrated they are, and how similar to L2-SP's."""

from __future__ import annotations

import pandas as pd

from delta.report.names import network_label

COMPARED = ["delta_wo_att", "delta"]


def correlations_with_l2_sp(maps: pd.DataFrame) -> pd.Series:
    """The mean correlation of DELTA's maps, without and with attention, with L2-SP's, by method; empty for none.

    Both means are over the same maps: those that are constant for none of the three networks.

    Args:
        maps: label, path, map, method, correlation, of one data set and backbone.
    """
    wide = maps.pivot(index=["label", "path", "map"], columns="method", values="correlation")
    return wide.reindex(columns=COMPARED).dropna().mean().dropna()


def mean_areas(maps: pd.DataFrame) -> tuple[pd.Series, str]:
    """The mean share of the image on which a map is above half of its range, in percent, by method.

    A constant map has no such area and says nothing about where a network looks, so it is left out.

    Args:
        maps: method, area, of one data set and backbone.

    Returns:
        The means of the methods that have a map which is not constant, and a clause that begins with a semicolon and
        counts the maps left out, empty for none.
    """
    varying = maps["area"] > 0
    means = maps[varying].groupby("method", sort=False)["area"].mean()
    constant = maps[~varying].groupby("method", sort=False).size()
    total = maps["method"].value_counts()
    counts = [f"{number} of {network_label(method)}'s {total[method]}" for method, number in constant.items()]
    return means, f"; without contrast and left out: {', '.join(counts)}" if counts else ""
