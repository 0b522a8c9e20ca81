"""From packed uint8 images to network inputs: random crops for training, whole images for testing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from delta.backbones import Backbone
from delta.errors import UserError


@dataclass(frozen=True)
class Packed:
    """A data set as `delta.split.write_packed` wrote it; the images stay on disk, memory-mapped.

    Attributes:
        index: a row an image: path, label, target (class index), split (train or test).
        train_view: training images, uint8 [n_train, resize, resize, 3], in the order of the index.
        test_view: all images, uint8 [n, crop, crop, 3].
    """

    index: pd.DataFrame
    train_view: np.ndarray
    test_view: np.ndarray

    @classmethod
    def open(cls, folder: Path) -> Packed:
        """Raises UserError where the folder is not a packed data set."""
        try:
            views = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("train_view", "test_view")]
            text = dict.fromkeys(("path", "label", "split"), str)  # a label may look like a number
            return cls(pd.read_csv(folder / "index.csv", dtype=text, keep_default_na=False), *views)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: not a packed data set ({error}): run `dvc repro split`") from None

    @property
    def classes(self) -> list[str]:
        """Class names by target index."""
        return list(self.index.sort_values("target")["label"].unique())

    def rows(self, split: str) -> np.ndarray:
        """The rows of a split, into `index` and `test_view`."""
        return np.flatnonzero(self.index["split"] == split)

    def targets(self, split: str) -> Tensor:
        """Class indices of a split, int64 [n]."""
        return torch.from_numpy(self.index["target"].to_numpy()[self.rows(split)])

    def test_batches(
        self, split: str, spec: Backbone, batch_size: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """A split in the deterministic test view, in order: normalised images [b, 3, crop, crop] and targets [b]."""
        rows = torch.from_numpy(self.rows(split)).split(batch_size)
        for batch, targets in zip(rows, self.targets(split).split(batch_size), strict=True):
            pixels = torch.from_numpy(self.test_view[batch.numpy()])
            yield normalised(pixels.to(device), spec), targets.to(device)


def normalised(pixels: Tensor, spec: Backbone) -> Tensor:
    """uint8 [b, h, w, 3] to the source network's inputs, float [b, 3, h, w]: (pixel/255 − mean) / std."""
    mean, std = (torch.tensor(value, device=pixels.device).view(3, 1, 1) for value in (spec.mean, spec.std))
    return (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std


def random_crops(images: np.ndarray, crop: int, generator: torch.Generator) -> Tensor:
    """A random crop of each image, mirrored with probability ½: uint8 [b, size, size, 3] to [b, crop, crop, 3]."""
    count, size = images.shape[:2]
    tops, lefts = torch.randint(size - crop + 1, (2, count), generator=generator).tolist()
    mirrored = (torch.rand(count, generator=generator) < 0.5).tolist()
    crops = [
        image[top : top + crop, left : left + crop][:, :: -1 if mirror else 1]
        for image, top, left, mirror in zip(images, tops, lefts, mirrored, strict=True)
    ]
    return torch.from_numpy(np.stack(crops))


def endless_batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches of row numbers for ever, every row once an epoch in a new order; an epoch's short rest is left out.

    A training set smaller than a batch is one batch.
    """
    batch_size = min(batch_size, count)
    while True:
        order = torch.randperm(count, generator=generator)
        yield from order[: count - count % batch_size].split(batch_size)
