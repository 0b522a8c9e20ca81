"""Images of none of the classes: those whose pooled features point away from every class's.

An image's similarity is the cosine of its pooled features and the nearest class mean. It was chosen over the largest
probability for what benchmarks/unknown.py measures: both tell a class that was left out from its sister classes about
equally well (badly, if even a human needs a field guide), but a picture of something else entirely gets a probability
above the threshold in up to nine of ten cases, and a similarity above it in at most one of thirty.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize

from delta.io.errors import UserError

FILE = "class_means.safetensors"
KEPT = 95  # percent of cross-validated training images whose similarity reaches the threshold
_NAME = "class_means"


def class_means(features: Tensor, targets: Tensor, classes: int) -> Tensor:
    """The mean direction of each class's features, of length 1: float [classes, D].

    Args:
        features: pooled features of training images, [n, D].
        targets: class indices, int64 [n]; every class has an image.
    """
    sums = torch.zeros(classes, features.shape[1], dtype=features.dtype)
    return normalize(sums.index_add(0, targets, normalize(features)))


def similarity(features: Tensor, means: Tensor) -> Tensor:
    """The cosine of each image's features and the nearest class mean, [n].

    Args:
        features: pooled features, [n, D].
        means: see `class_means`.
    """
    return (normalize(features) @ means.T).amax(1)


def choose_threshold(similarities: np.ndarray) -> float:
    """The largest similarity that at least `KEPT` percent of images reach.

    Args:
        similarities: of training images, each to class means of a network that it was held out from, [n].
    """
    kept = -(-KEPT * len(similarities) // 100)
    return float(np.sort(similarities)[-kept])


def write_class_means(run: Path, means: Tensor) -> None:
    """Write class means into the folder of their run."""
    save_file({_NAME: means.contiguous()}, run / FILE)


def read_class_means(run: Path) -> Tensor:
    """What `write_class_means` wrote.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return load_file(run / FILE)[_NAME]
    except (OSError, SafetensorError, KeyError) as error:
        raise UserError(f"{run / FILE}: no class means ({' '.join(str(error).split())}): run `dvc repro`") from None
