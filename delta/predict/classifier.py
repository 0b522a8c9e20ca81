"""A finished run in use: the classes of image files, seen as the run's own test images were."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from delta.data.images import BROKEN_IMAGE, decode, in_order, reason, resize_shorter_edge, resize_square
from delta.data.packed.views import ImprovedViewData, input_statistics, normalised, ten_crops
from delta.io.errors import UserError
from delta.networks.devices import deterministic, to_device
from delta.networks.hooks import in_eval_mode
from delta.networks.network import Network, trained_network
from delta.training.evaluation import image_logits
from delta.training.result import FILE, RunResult, TestView

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Prediction:
    """What became of an image file.

    Attributes:
        path: the file.
        probabilities: of each class, float32 [n_classes]; None where the file cannot be decoded.
        problem: why it cannot, in a few words.
    """

    path: Path
    probabilities: np.ndarray | None
    problem: str | None = None


@dataclass(frozen=True)
class Classifier:
    """A trained network with what it takes to use it.

    Attributes:
        classes: names, by the network's outputs.
    """

    network: Network
    classes: tuple[str, ...]
    view: TestView

    @classmethod
    def open(cls, run: Path, device: torch.device = _CPU) -> Self:
        """The classifier that a run's folder holds, see `delta.training.run.write_run`, on a device.

        Raises:
            UserError: the folder is no run, or one that does not say how it sees images.
        """
        if not (run / FILE).is_file():
            raise UserError(f"{run}: not a run's folder, as runs/<data set>/<backbone>/<method>/<seed> is")
        result = RunResult.read(run)
        network = trained_network(run)
        if network.head.out_features != len(result.classes):
            raise UserError(
                f"{run}: {len(result.classes)} class names for a network of {network.head.out_features} classes: "
                "run `dvc repro`"
            )
        return cls(network.to(device), tuple(result.classes), result.view)

    def logits(self, crops: Tensor) -> Tensor:
        """Logits of images, [b, n_classes], as evaluation has them.

        Args:
            crops: uint8 [b, crops, crop, crop, 3], see `crops_of_image`.
        """
        device = next(self.network.parameters()).device
        statistics = input_statistics(self.network.spec, device)
        with torch.inference_mode(), in_eval_mode(self.network), deterministic():
            return image_logits(
                self.network, normalised(to_device(crops.flatten(0, 1), device), statistics), len(crops)
            )

    def classify(self, paths: Sequence[Path], batch_size: int = 64, workers: int | None = None) -> Iterator[Prediction]:
        """Classify image files, in their order; one that cannot be decoded says why and stops nothing.

        Args:
            batch_size: crops that pass the network at once.
            workers: threads that decode, by default one a processor.
        """

        def attempt(place: int) -> Tensor | str:
            try:
                return crops_of_image(self.view, decode(paths[place]))
            except BROKEN_IMAGE as error:
                return reason(error)

        found = in_order(attempt, len(paths), workers or os.cpu_count() or 1)
        images = max(1, batch_size // self.view.crops)
        rest = iter(paths)
        while batch := list(islice(found, images)):
            readable = [crops for crops in batch if isinstance(crops, Tensor)]
            rows = iter(self.logits(torch.stack(readable)).softmax(1).cpu().numpy() if readable else ())
            for path, crops in zip(islice(rest, len(batch)), batch, strict=True):
                yield Prediction(path, next(rows)) if isinstance(crops, Tensor) else Prediction(path, None, crops)


def crops_of_image(view: TestView, image: Image.Image) -> Tensor:
    """An upright RGB image's test crops, uint8 [crops, crop, crop, 3], as a packed data set gives them."""
    if view.crops == ImprovedViewData.crops:
        return ten_crops([resize_shorter_edge(image, view.resize).copy()], view.crop)
    return torch.from_numpy(resize_square(image, view.crop).copy())[None]


def image_files(paths: Iterable[Path]) -> list[Path]:
    """The files among `paths`, and of each folder all image files below it, sorted.

    A folder's files are told by their suffix; hidden files and folders are left out. A file that is named itself is
    taken as it is.

    Raises:
        UserError: a folder holds no image file.
    """
    files = []
    for path in paths:
        found = sorted(_below(path)) if path.is_dir() else [path]
        if not found:
            raise UserError(f"{path}: a folder without image files")
        files += found
    return files


def _below(folder: Path) -> Iterator[Path]:
    suffixes = {suffix for suffix, format in Image.registered_extensions().items() if format in Image.OPEN}
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in suffixes and not hidden and path.is_file():
            yield path
