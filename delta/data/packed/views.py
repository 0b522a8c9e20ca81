"""From packed uint8 images to network inputs: random crops for training, fixed crops for testing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from delta.data.packed.ahead import read_ahead
from delta.data.packed.disk_array import DiskArray, ImageArray, JpegArray, open_images
from delta.data.packed.index import near_duplicate_groups, read_index
from delta.io.errors import UserError
from delta.networks.devices import to_device
from delta.networks.spec import BackboneSpec


@dataclass(frozen=True)
class ViewData(ABC):
    """A packed data set; each subclass is a view (a way to resize and crop its images for training and testing).

    Attributes:
        index: one row per image, with the columns path, label, target (class index) and split (train or test).
        crops: the number of test crops per image.
    """

    crops: ClassVar[Literal[1, 10]] = 1
    index: pd.DataFrame

    @property
    def classes(self) -> list[str]:
        """Class names by target index."""
        return list(self.index.sort_values("target")["label"].unique())

    def rows(self, split: str) -> np.ndarray:
        """The row numbers of a split in `index`, int64 [n]."""
        return np.flatnonzero(self.index["split"] == split)

    def targets(self, split: str) -> Tensor:
        """Class indices of a split, int64 [n]."""
        return torch.from_numpy(self.index["target"].to_numpy()[self.rows(split)])

    def groups(self, split: str) -> np.ndarray:
        """A number for each image of a split, int64 [n], that near-duplicates share."""
        return near_duplicate_groups(self.index)[self.rows(split)]

    def hold_out(self, fold: np.ndarray) -> Self:
        """A copy in which some training images belong to the split `validation`.

        Args:
            fold: the images, as indices into the training split.
        """
        split = self.index["split"].to_numpy(copy=True)
        split[self.rows("train")[fold]] = "validation"
        return replace(self, index=self.index.assign(split=split))

    def training_images(self, batch: Tensor) -> Sequence[np.ndarray]:
        """A batch of training images to take `random_crops` from: uint8 [h, w, 3] each. It may be called in a thread.

        Args:
            batch: the images, as indices into the training split, int64 [b].
        """
        return self._training_images(self._training_rows[batch.numpy()])

    @cached_property
    def _training_rows(self) -> np.ndarray:
        return self.rows("train")

    def test_batches(
        self, split: str, spec: BackboneSpec, batch_size: int, device: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The test crops of a split's images in order, in batches of `batch_size` crops; the next are read meanwhile.

        Yields:
            Normalised crops [b · crops, 3, crop, crop], the crops of an image being adjacent, and targets [b].
        """
        images, statistics = max(1, batch_size // self.crops), input_statistics(spec, device)
        rows = (batch.numpy() for batch in torch.from_numpy(self.rows(split)).split(images))
        with closing(read_ahead(self._test_crops, rows)) as batches:
            for (_, crops), targets in zip(batches, self.targets(split).split(images), strict=True):
                yield normalised(to_device(crops, device), statistics), to_device(targets, device)

    @abstractmethod
    def _training_images(self, rows: np.ndarray) -> Sequence[np.ndarray]:
        """The training images at rows of the index: uint8 [h, w, 3] each, at least as large as the crop."""

    @abstractmethod
    def _test_crops(self, rows: np.ndarray) -> Tensor:
        """The test crops of the images at rows of the index: uint8 [b · crops, crop, crop, 3]."""


@dataclass(frozen=True)
class DefaultViewData(ViewData):
    """The default view (Table 1): random crops of squares for training, the resized image for testing.

    Attributes:
        index: with the additional column train_row, a training image's row in `train_view`.
        train_view: training images, uint8 [n_train, resize, resize, 3], in the order of the index.
        test_view: all images, uint8 [n, crop, crop, 3].
    """

    train_view: ImageArray | np.ndarray
    test_view: ImageArray | np.ndarray

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a folder that `delta.data.packing.write_packed` wrote; raise UserError if it is anything else."""
        index = read_index(folder)
        counts = {"train_view": (index["split"] == "train").sum(), "test_view": len(index)}
        try:
            views = {name: open_images(folder, name) for name in counts}
        except Exception as error:  # NumPy raises many kinds of errors for a damaged header
            raise _not_packed(folder, error) from None
        for name, view in views.items():
            if len(view) != counts[name]:
                raise _not_packed(folder, f"{view.path.name} has {len(view)} images, index.csv {counts[name]}")
        return cls(index.assign(train_row=(index["split"] == "train").cumsum() - 1), **views)

    def _training_images(self, rows: np.ndarray) -> Sequence[np.ndarray]:
        return list(self.train_view[self.index["train_row"].to_numpy()[rows]])

    def _test_crops(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(self.test_view[rows])


@dataclass(frozen=True)
class ImprovedViewData(ViewData):
    """The improved view (Table 2): random crops at the original aspect ratio for training, ten crops for testing.

    Attributes:
        index: with the additional columns height, width (pixels) and offset (an image's first pixel in `images`).
        images: the concatenated images' pixels, uint8, or the images as JPEGs.
        crop: pixels per side of the ten test crops: corners and centre, of the image and of its mirror image.
    """

    crops: ClassVar[Literal[1, 10]] = 10
    images: ImageArray
    crop: int

    @classmethod
    def open(cls, folder: Path, crop: int) -> Self:
        """Open a folder that `delta.data.packing.write_packed_whole` wrote; raise UserError if it is anything else."""
        index = read_index(folder, whole=True)
        sizes, jpegs = 3 * index["height"] * index["width"], folder / "images.mjpeg"
        images: ImageArray
        try:
            images = JpegArray(jpegs) if jpegs.exists() else DiskArray(folder / "images.bin", (int(sizes.sum()),))
        except Exception as error:  # NumPy raises many kinds of errors for a damaged header
            raise _not_packed(folder, error) from None
        if isinstance(images, JpegArray) and len(images) != len(index):
            raise _not_packed(folder, f"images.mjpeg has {len(images)} images, index.csv {len(index)}")
        return cls(index.assign(offset=sizes.cumsum() - sizes), images, crop)

    def _training_images(self, rows: np.ndarray) -> Sequence[np.ndarray]:
        if isinstance(self.images, JpegArray):
            return [self.images[row] for row in rows.tolist()]
        return [self.images[o : o + 3 * h * w].reshape(h, w, 3) for o, h, w in self._places[rows]]

    @cached_property
    def _places(self) -> np.ndarray:
        return self.index[["offset", "height", "width"]].to_numpy()

    def _test_crops(self, rows: np.ndarray) -> Tensor:
        return ten_crops([image.copy() for image in self._training_images(rows)], self.crop)


def _not_packed(folder: Path, why: object) -> UserError:
    return UserError(f"{folder}: not a packed data set ({why}): run `dvc repro`")


def input_statistics(spec: BackboneSpec, device: torch.device) -> Tensor:
    """The per-channel mean and standard deviation that inputs are normalised with, float [2, 3, 1, 1]."""
    return torch.tensor([spec.mean, spec.std], device=device).view(2, 3, 1, 1)


def normalised(pixels: Tensor, statistics: Tensor) -> Tensor:
    """Network inputs from pixels, uint8 [b, h, w, 3] to float [b, 3, h, w]: (pixel/255 − mean) / std.

    The result has the channels-last memory format, which is fastest for convolutions.

    Args:
        statistics: see `input_statistics`.
    """
    mean, std = statistics
    return (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std


def ten_crops(images: Sequence[np.ndarray], crop: int) -> Tensor:
    """The ten test crops of each image, uint8 [h, w, 3] each to [10 · b, crop, crop, 3]."""
    from torchvision.transforms.functional import ten_crop  # here, as importing it takes 1.5 seconds

    channels_first = (torch.from_numpy(image).permute(2, 0, 1) for image in images)
    crops = torch.stack([one for image in channels_first for one in ten_crop(image, crop)])
    # Contiguous, so that the normalised inputs have the channels-last format: convolutions are three times faster.
    return crops.permute(0, 2, 3, 1).contiguous()


def random_crops(images: Sequence[np.ndarray], crop: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """A random crop of each image, mirrored with probability ½: uint8 [h, w, 3] each to [b, crop, crop, 3].

    The whole images are copied to the device and cropped there; images of different sizes are padded to the largest.
    """
    sizes = np.array([image.shape[:2] for image in images])
    batch = torch.empty(len(images), *sizes.max(0).tolist(), 3, dtype=torch.uint8, pin_memory=device.type == "cuda")
    pixels = batch.numpy()
    for padded, image in zip(pixels, images, strict=True):
        padded[: image.shape[0], : image.shape[1]] = image
    uniform = torch.rand(3, len(images), generator=generator, dtype=torch.float64)
    positions = torch.from_numpy(sizes.T - crop + 1)  # how many there are, vertically and horizontally
    choices = torch.cat([(uniform[:2] * positions).long(), (uniform[2:] < 0.5).long()])
    tops, lefts, mirrored = to_device(choices, device)[:, :, None]
    offsets = torch.arange(crop, device=device)
    rows, columns = tops + offsets, lefts + torch.where(mirrored == 1, crop - 1 - offsets, offsets)
    image_indices = torch.arange(len(images), device=device)[:, None, None]
    return batch.to(device, non_blocking=True)[image_indices, rows[:, :, None], columns[:, None, :]]


def endless_batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield batches of indices forever, shuffled anew in every epoch; an epoch's last incomplete batch is dropped.

    A training set smaller than a batch yields all of it as one batch.
    """
    batch_size = min(batch_size, count)
    while True:
        order = torch.randperm(count, generator=generator)
        yield from order[: count - count % batch_size].split(batch_size)
