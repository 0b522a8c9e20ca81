"""Activation maps in numbers: how concentrated they are, and how similar to L2-SP's, image by image."""

from __future__ import annotations

import pandas as pd

COMPARED = ["delta_wo_att", "delta"]
IMAGE = ["label", "path"]


def image_correlations(maps: pd.DataFrame) -> pd.DataFrame:
    """The correlation of DELTA's maps, without and with attention, with L2-SP's, averaged over each image's maps.

    Both are over the same maps: those that are constant for none of the three networks.

    Args:
        maps: label, path, map, method, correlation, of one data set and backbone.

    Returns:
        A row for each image with such a map, a column for each method of COMPARED.
    """
    wide = maps.pivot(index=[*IMAGE, "map"], columns="method", values="correlation")
    return wide.reindex(columns=COMPARED).dropna().groupby(IMAGE, sort=False).mean()


def image_areas(maps: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The share of the image, in percent, on which a map is above half of its range, averaged over each image's maps.

    All methods are averaged over the same maps: those that are constant for none of them. A constant map has no such
    area and says nothing about where a network looks.

    Args:
        maps: label, path, map, method, area, of one data set and backbone.

    Returns:
        A row for each image with such a map, a column for each method in the order of the rows; and a clause that
        begins with a semicolon and counts the maps left out, empty for none.
    """
    wide = maps.pivot(index=[*IMAGE, "map"], columns="method", values="area")[list(maps["method"].unique())]
    varying = wide[(wide > 0).all(axis=1)]
    left_out = len(wide) - len(varying)
    clause = f"; {left_out} of {len(wide)} maps have no contrast for some network and are left out" if left_out else ""
    return varying.groupby(IMAGE, sort=False).mean(), clause
