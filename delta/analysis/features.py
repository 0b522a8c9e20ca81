"""The pooled features of the frozen source network, computed once for everything that looks at them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from delta.data.packed.views import ViewData
from delta.io.errors import UserError
from delta.networks.devices import deterministic
from delta.networks.network import Network
from delta.training.evaluation import split_features


def pooled_features(network: Network, data: ViewData) -> np.ndarray:
    """What a network's head sees of every image of the data set: test view, eval mode, means over an image's crops.

    Args:
        network: whose backbone is used, on the device to compute on.

    Returns:
        float32 [n, d], a row for each row of `data.index`.
    """
    features = np.empty((len(data.index), network.head.in_features), np.float32)
    with deterministic():
        for split in ("train", "test"):
            features[data.rows(split)] = split_features(network, data, split).numpy()
    return features


def write_features(file: Path, features: np.ndarray) -> None:
    """Write features as a .npy file, under any name."""
    with file.open("wb") as opened:
        np.save(opened, features)


def read_features(file: Path, images: int) -> np.ndarray:
    """What `write_features` wrote of a data set of so many images: float32 [images, d].

    Raises:
        UserError: the file cannot be read, or has features of another data set.
    """
    try:
        features = np.load(file, allow_pickle=False)
        if features.dtype != np.float32 or features.ndim != 2 or len(features) != images:
            raise ValueError(f"{features.dtype} {list(features.shape)} for {images} images")
    except OSError as error:
        raise UserError(f"{file}: no features ({error.strerror}): run `dvc repro`") from None
    except (ValueError, EOFError) as error:
        raise UserError(f"{file}: no features ({error}): run `dvc repro`") from None
    return features
