"""From packed uint8 images to network inputs: random crops for training, fixed crops for testing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchvision.transforms.functional import ten_crop

from delta.data.packed.disk_array import DiskArray
from delta.data.packed.index import read_index
from delta.io.errors import UserError
from delta.networks.devices import to_device
from delta.networks.spec import BackboneSpec


@dataclass(frozen=True)
class ViewData(ABC):
    """A data set whose images lie decoded on disk; the subclasses are the views of it.

    Attributes:
        index: a row an image: path, label, target (class index), split (train or test).
        crops: an image's crops in the test view.
    """

    crops: ClassVar[Literal[1, 10]] = 1
    index: pd.DataFrame

    @property
    def classes(self) -> list[str]:
        """Class names by target index."""
        return list(self.index.sort_values("target")["label"].unique())

    def rows(self, split: str) -> np.ndarray:
        """The rows of a split in `index`."""
        return np.flatnonzero(self.index["split"] == split)

    def targets(self, split: str) -> Tensor:
        """Class indices of a split, int64 [n]."""
        return torch.from_numpy(self.index["target"].to_numpy()[self.rows(split)])

    def hold_out(self, fold: np.ndarray) -> Self:
        """The same images with some training images moved to the split `validation`.

        Args:
            fold: which ones, as places among the training images.
        """
        split = self.index["split"].to_numpy(copy=True)
        split[self.rows("train")[fold]] = "validation"
        return replace(self, index=self.index.assign(split=split))

    def training_crops(self, places: Tensor, crop: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """Random crops of training images: uint8 [b, crop, crop, 3] on the device, see `random_crops`.

        Args:
            places: which ones, as places among the training images.
        """
        return random_crops(self._training_images(self._training_rows[places.numpy()]), crop, generator, device)

    @cached_property
    def _training_rows(self) -> np.ndarray:
        return self.rows("train")

    def test_batches(
        self, split: str, spec: BackboneSpec, batch_size: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """A split in the deterministic test view, in order, `batch_size` crops at a time.

        Yields:
            Normalised crops [b · crops, 3, crop, crop], an image's crops one after the other, and targets [b].
        """
        images, statistics = max(1, batch_size // self.crops), input_statistics(spec, device)
        rows = torch.from_numpy(self.rows(split)).split(images)
        for batch, targets in zip(rows, self.targets(split).split(images), strict=True):
            yield normalised(to_device(self._test_crops(batch.numpy()), device), statistics), to_device(targets, device)

    @abstractmethod
    def _training_images(self, rows: np.ndarray) -> Sequence[np.ndarray]:
        """uint8 [h, w, 3] each, at least the crop's size, by rows of the index."""

    @abstractmethod
    def _test_crops(self, rows: np.ndarray) -> Tensor:
        """uint8 [b · crops, crop, crop, 3] by rows of the index."""


@dataclass(frozen=True)
class DefaultViewData(ViewData):
    """The default view (Table 1), as `delta.data.split.write_packed` wrote it.

    Attributes:
        index: has train_row as well, a training image's row in `train_view`.
        train_view: training images, uint8 [n_train, resize, resize, 3], in the order of the index.
        test_view: all images, uint8 [n, crop, crop, 3].
    """

    train_view: DiskArray | np.ndarray
    test_view: DiskArray | np.ndarray

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Raises UserError where the folder is not a packed data set."""
        index = read_index(folder)
        counts = {"train_view": (index["split"] == "train").sum(), "test_view": len(index)}
        try:
            views = {name: DiskArray.npy(folder / f"{name}.npy") for name in counts}
        except Exception as error:  # NumPy has many kinds for a damaged header
            raise _not_packed(folder, error) from None
        for name, view in views.items():
            if len(view) != counts[name]:
                raise _not_packed(folder, f"{name}.npy has {len(view)} images, index.csv {counts[name]}")
        return cls(index.assign(train_row=(index["split"] == "train").cumsum() - 1), **views)

    def _training_images(self, rows: np.ndarray) -> Sequence[np.ndarray]:
        return self.train_view[self.index["train_row"].to_numpy()[rows]]

    def _test_crops(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(self.test_view[rows])


@dataclass(frozen=True)
class ImprovedViewData(ViewData):
    """The improved view (Table 2), as `delta.data.split.write_packed_whole` wrote it: aspect kept, ten-crop test.

    Attributes:
        index: has height and width (pixels) and offset, an image's first byte, as well.
        images: the images' bytes one after the other, uint8.
        crop: pixels a side of the ten test crops: the corners and the centre, and the same of the mirrored image.
    """

    crops: ClassVar[Literal[1, 10]] = 10
    images: DiskArray
    crop: int

    @classmethod
    def open(cls, folder: Path, crop: int) -> Self:
        """Raises UserError where the folder is not a packed data set."""
        index = read_index(folder, whole=True)
        sizes = 3 * index["height"] * index["width"]
        try:
            images = DiskArray(folder / "images.bin", (int(sizes.sum()),))
        except (OSError, ValueError) as error:
            raise _not_packed(folder, error) from None
        return cls(index.assign(offset=sizes.cumsum() - sizes), images, crop)

    def _training_images(self, rows: np.ndarray) -> Sequence[np.ndarray]:
        places = self.index[["offset", "height", "width"]].to_numpy()[rows]
        return [self.images[o : o + 3 * h * w].reshape(h, w, 3) for o, h, w in places]

    def _test_crops(self, rows: np.ndarray) -> Tensor:
        return ten_crops([image.copy() for image in self._training_images(rows)], self.crop)


def _not_packed(folder: Path, why: object) -> UserError:
    return UserError(f"{folder}: not a packed data set ({why}): run `dvc repro`")


def input_statistics(spec: BackboneSpec, device: torch.device) -> Tensor:
    """A source network's per-channel mean and standard deviation of pixels in [0, 1], float [2, 3, 1, 1]."""
    return torch.tensor([spec.mean, spec.std], device=device).view(2, 3, 1, 1)


def normalised(pixels: Tensor, statistics: Tensor) -> Tensor:
    """uint8 [b, h, w, 3] to the source network's inputs, float [b, 3, h, w]: (pixel/255 − mean) / std.

    They lie channels last in memory, which convolutions are fastest on.
    """
    mean, std = statistics
    return (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std


def ten_crops(images: Sequence[np.ndarray], crop: int) -> Tensor:
    """The improved view's test crops of images, uint8 [h, w, 3] each: uint8 [10 · b, crop, crop, 3]."""
    channels_first = (torch.from_numpy(image).permute(2, 0, 1) for image in images)
    crops = torch.stack([each for image in channels_first for each in ten_crop(image, crop)])
    # Channels last in memory as well: convolutions are three times faster on it.
    return crops.permute(0, 2, 3, 1).contiguous()


def random_crops(images: Sequence[np.ndarray], crop: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """A random crop of each image, mirrored with probability ½: uint8 [h, w, 3] each to [b, crop, crop, 3].

    The images go to the device as they are and are cut there; those of several sizes are padded to the largest.
    """
    sizes = np.array([image.shape[:2] for image in images])
    batch = torch.empty(len(images), *sizes.max(0).tolist(), 3, dtype=torch.uint8, pin_memory=device.type == "cuda")
    pixels = batch.numpy()
    for place, image in zip(pixels, images, strict=True):
        place[: image.shape[0], : image.shape[1]] = image
    corners = torch.rand(3, len(images), generator=generator, dtype=torch.float64)
    room = torch.from_numpy(sizes.T - crop + 1)
    places = torch.cat([(corners[:2] * room).long(), (corners[2:] < 0.5).long()])
    tops, lefts, mirrored = to_device(places, device)[:, :, None]
    along = torch.arange(crop, device=device)
    rows, columns = tops + along, lefts + torch.where(mirrored == 1, crop - 1 - along, along)
    picture = torch.arange(len(images), device=device)[:, None, None]
    return batch.to(device, non_blocking=True)[picture, rows[:, :, None], columns[:, None, :]]


def endless_batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches of row numbers for ever, every row once an epoch in a new order; an epoch's short rest is left out.

    A training set smaller than a batch is one batch.
    """
    batch_size = min(batch_size, count)
    while True:
        order = torch.randperm(count, generator=generator)
        yield from order[: count - count % batch_size].split(batch_size)
