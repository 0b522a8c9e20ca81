"""Classifying image files with a finished run, preprocessed like the run's test images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from delta.data.image_files import FoundFiles, find_images
from delta.data.images import (
    DECODE_ERRORS,
    decode_with_remarks,
    failure_reason,
    map_in_order,
    resize_shorter_edge,
    resize_square,
)
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
    """The prediction for an image file.

    Attributes:
        path: the file.
        probabilities: float32 [n_classes]; None if the file cannot be decoded.
        problem: why the file cannot be decoded, in a few words; None if it can.
        remarks: what a user should know of the file, see `delta.data.images.Decoded`.
    """

    path: Path
    probabilities: np.ndarray | None
    problem: str | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Classifier:
    """A trained network with its class names and preprocessing.

    Attributes:
        network: on the device to compute on.
        classes: class names by output index.
        view: how test images are resized and cropped.
    """

    network: Network
    classes: tuple[str, ...]
    view: TestView

    @classmethod
    def open(cls, run: Path, device: torch.device = _CPU) -> Self:
        """Load the classifier from a run's folder, see `delta.training.run.write_run`.

        Raises:
            UserError: the folder is not a run's, or the run is damaged.
        """
        if not (run / FILE).is_file():
            raise UserError(f"{run}: not a run's folder, such as runs/<data set>/<backbone>/<method>/<seed>")
        result = RunResult.read(run)
        network = trained_network(run)
        if network.head.out_features != len(result.classes):
            raise UserError(
                f"{run}: {len(result.classes)} class names for a network of {network.head.out_features} classes: "
                "run `dvc repro`"
            )
        return cls(network.to(device), tuple(result.classes), result.view)

    def logits(self, crops: Tensor) -> Tensor:
        """Logits of images as in evaluation, averaged over their crops: [b, n_classes].

        Args:
            crops: uint8 [b, crops, crop, crop, 3], see `preprocess`.
        """
        device = next(self.network.parameters()).device
        statistics = input_statistics(self.network.spec, device)
        with torch.inference_mode(), in_eval_mode(self.network), deterministic():
            return image_logits(
                self.network, normalised(to_device(crops.flatten(0, 1), device), statistics), len(crops)
            )

    def classify(self, paths: Sequence[Path], batch_size: int = 64, workers: int | None = None) -> Iterator[Prediction]:
        """Yield a prediction for each image file, in order; for files that cannot be decoded, with the problem.

        Args:
            batch_size: crops per forward pass.
            workers: decoding threads, by default one per core.
        """

        def attempt(index: int) -> tuple[Tensor, tuple[str, ...]] | str:
            try:
                image, remarks = decode_with_remarks(paths[index])
                return preprocess(self.view, image), remarks
            except DECODE_ERRORS as error:
                return failure_reason(error)

        decoded = map_in_order(attempt, len(paths), workers)
        images = max(1, batch_size // self.view.crops)
        remaining = iter(paths)
        while batch := list(islice(decoded, images)):
            readable = [each[0] for each in batch if not isinstance(each, str)]
            probabilities = iter(self.logits(torch.stack(readable)).softmax(1).cpu().numpy() if readable else ())
            for path, each in zip(islice(remaining, len(batch)), batch, strict=True):
                if isinstance(each, str):
                    yield Prediction(path, None, problem=each)
                else:
                    yield Prediction(path, next(probabilities), remarks=each[1])


def preprocess(view: TestView, image: Image.Image) -> Tensor:
    """The test crops of an upright RGB image, as from a packed data set: uint8 [crops, crop, crop, 3]."""
    if view.crops == ImprovedViewData.crops:
        return ten_crops([resize_shorter_edge(image, view.resize).copy()], view.crop)
    return torch.from_numpy(resize_square(image, view.crop).copy())[None]


def image_files(paths: Iterable[Path]) -> list[Path]:
    """Expand folders to the image files in them, see `find_files`.

    Raises:
        UserError: a folder without image files.
    """
    return find_files(paths).images


def find_files(paths: Iterable[Path]) -> FoundFiles:
    """Expand folders to the image files in them, at any depth and sorted; other paths are kept.

    Returns:
        The image files, and what is left out of the folders, see `delta.data.image_files.find_images`.

    Raises:
        UserError: a folder without image files.
    """
    files = FoundFiles()
    for path in paths:
        found = find_images(path) if path.is_dir() else FoundFiles(images=[path])
        if not found.images:
            raise UserError("; ".join([f"{path}: a folder without image files", *found.left_out()]))
        files.add(found)
    return files
