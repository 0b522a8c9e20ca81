"""From filter importance to channel weights C·W_j (the last line of Algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import softmax


def attention(importance: np.ndarray, normalization: str) -> np.ndarray:
    """Normalise the importance W of one layer's filters to attention weights: non-negative, summing to 1.

    Args:
        importance: W of Equation (9), float64 [C].
        normalization: `standardized` for softmax((W − mean) / std / 5) with the population std, which is uniform if
            all filters are equally important; `literal` for softmax(W), as Algorithm 1 is written.

    Returns:
        float64 [C].
    """
    if normalization == "standardized":
        std = importance.std()
        importance = (importance - importance.mean()) / (5 * std) if std > 0 else np.zeros_like(importance)
    return softmax(importance)


def channel_weights(importance: Mapping[str, np.ndarray], normalization: str) -> dict[str, np.ndarray]:
    """C·W_j: the weights of the filters' terms in a penalty, with mean 1 in each layer.

    Args:
        importance: by feature layer, float64 [C] each.
        normalization: see `attention`.
    """
    return {layer: len(scores) * attention(scores, normalization) for layer, scores in importance.items()}
