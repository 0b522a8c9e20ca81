"""From filter importance to channel weights C·W_j (the last line of Algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import softmax


def attention(importance: np.ndarray, normalization: str) -> np.ndarray:
    """W of one layer from its filters' importance: not negative, summing to 1.

    `standardized`: softmax((W − mean) / std / 5) with the population std, as the protocol has it. `literal`:
    softmax(W), Algorithm 1 to the letter. A layer whose filters are all equally important gets uniform attention.

    Args:
        importance: Σ_i of Equation (9), float64 [C].
    """
    if normalization == "standardized":
        std = importance.std()
        importance = (importance - importance.mean()) / (5 * std) if std > 0 else np.zeros_like(importance)
    return softmax(importance)


def channel_weights(importance: Mapping[str, np.ndarray], normalization: str) -> dict[str, np.ndarray]:
    """C·W_j, which average 1 in each layer: what a penalty multiplies its filters' terms by.

    Args:
        importance: by feature layer, float64 [C] each.
        normalization: see `attention`.
    """
    return {layer: len(scores) * attention(scores, normalization) for layer, scores in importance.items()}
