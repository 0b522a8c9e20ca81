"""Bilinear upsampling with loops, as a reference for the library."""

from __future__ import annotations

import math

import numpy as np


def bilinear(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a map [h, w] with half-pixel centres; values beyond the border are those at the border."""

    def neighbours(place: int, count: int, old: int) -> tuple[int, int, float]:
        at = min(max((place + 0.5) * old / count - 0.5, 0), old - 1)
        return math.floor(at), min(math.floor(at) + 1, old - 1), at - math.floor(at)

    out = np.zeros((height, width))
    for y in range(height):
        top, bottom, down = neighbours(y, height, values.shape[0])
        for x in range(width):
            left, right, across = neighbours(x, width, values.shape[1])
            upper = (1 - across) * values[top, left] + across * values[top, right]
            lower = (1 - across) * values[bottom, left] + across * values[bottom, right]
            out[y, x] = (1 - down) * upper + down * lower
    return out
