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

from delta.analysis.recommendation import FILE as RECOMMENDATION
from delta.analysis.recommendation import Recommendation
from delta.analysis.unknown import read_class_means, similarity
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
from delta.io.files import is_file
from delta.networks.devices import deterministic, to_device
from delta.networks.hooks import in_eval_mode
from delta.networks.network import Network, trained_network
from delta.training.evaluation import mean_of_crops
from delta.training.result import FILE, RunResult, TestView

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Prediction:
    """The prediction for an image file.

    Attributes:
        path: the file.
        probabilities: float32 [n_classes]; None if the file cannot be decoded.
        problem: why the file cannot be decoded, in a few words; None if it can.
        unknown: whether it is none of the classes; None if the run does not tell, or the file cannot be decoded.
        remarks: what a user should know of the file, see `delta.data.images.Decoded`.
    """

    path: Path
    probabilities: np.ndarray | None
    problem: str | None = None
    unknown: bool | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Familiar:
    """What a recommended network calls one of its classes, see `delta.analysis.unknown`.

    Attributes:
        means: the classes' mean features, float [n_classes, D], on the network's device.
        threshold: the least similarity to one of them.
    """

    means: Tensor
    threshold: float


@dataclass(frozen=True)
class Classifier:
    """A trained network with its class names and preprocessing.

    Attributes:
        network: on the device to compute on.
        classes: class names by output index.
        view: how test images are resized and cropped.
        temperature: logits are divided by it before they become probabilities; 1 for a run that is not recommended.
        familiar: tells images that are none of the classes; None for a run that is not recommended.
    """

    network: Network
    classes: tuple[str, ...]
    view: TestView
    temperature: float = 1.0
    familiar: Familiar | None = None

    @classmethod
    def open(cls, run: Path, device: torch.device = _CPU) -> Self:
        """Load the classifier from a run's folder, see `delta.training.run.write_run`.

        Raises:
            UserError: the folder is not a run's, or the run is damaged.
        """
        if not is_run(run):
            raise UserError(f"{run}: not a run's folder, such as runs/<data set>/<backbone>/<method>/<seed>")
        result = RunResult.read(run)
        network = trained_network(run)
        if network.head.out_features != len(result.classes):
            raise UserError(
                f"{run}: {len(result.classes)} class names for a network of {network.head.out_features} classes: "
                "run `dvc repro`"
            )
        temperature, familiar = 1.0, None
        if (run / RECOMMENDATION).is_file():
            recommended, means = Recommendation.read(run), read_class_means(run)
            if means.shape != network.head.weight.shape:
                raise UserError(f"{run}: class means of shape {list(means.shape)} for another network: run `dvc repro`")
            temperature, familiar = recommended.temperature, Familiar(means.to(device), recommended.unknown.threshold)
        return cls(network.to(device), tuple(result.classes), result.view, temperature, familiar)

    def logits(self, crops: Tensor) -> Tensor:
        """Logits of images as in evaluation, averaged over their crops: [b, n_classes].

        Args:
            crops: uint8 [b, crops, crop, crop, 3], see `preprocess`.
        """
        return self.outputs(crops)[0]

    def outputs(self, crops: Tensor) -> tuple[Tensor, Tensor | None]:
        """`logits`, and the similarity to the nearest class, [b]; None for a run that is not recommended.

        Args:
            crops: see `logits`.
        """
        device = next(self.network.parameters()).device
        images = normalised(to_device(crops.flatten(0, 1), device), input_statistics(self.network.spec, device))
        with torch.inference_mode(), in_eval_mode(self.network), deterministic():
            features = self.network.backbone(images)
            logits, features = (mean_of_crops(each, len(crops)) for each in (self.network.head(features), features))
            return logits, similarity(features, self.familiar.means) if self.familiar else None

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
            scores = self._scores(torch.stack(readable)) if readable else iter(())
            for path, each in zip(islice(remaining, len(batch)), batch, strict=True):
                if isinstance(each, str):
                    yield Prediction(path, None, problem=each)
                else:
                    probabilities, unknown = next(scores)
                    yield Prediction(path, probabilities, unknown=unknown, remarks=each[1])

    def _scores(self, crops: Tensor) -> Iterator[tuple[np.ndarray, bool | None]]:
        """Each image's probabilities, and whether it is none of the classes."""
        logits, similarities = self.outputs(crops)
        unknown: list[bool | None] = [None] * len(crops)
        if self.familiar and similarities is not None:
            unknown = list((similarities < self.familiar.threshold).tolist())
        return zip((logits / self.temperature).softmax(1).cpu().numpy(), unknown, strict=True)


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's."""
    return is_file(folder / FILE)


def recommended_run(root: Path) -> Path:
    """The folder of the one network below a project's root that is recommended: `runs/<data set>/best`.

    Raises:
        UserError: there is none, or there are several.
    """
    found = sorted(file.parent for file in root.glob(f"runs/*/best/{RECOMMENDATION}"))
    if not found:
        raise UserError(
            "no run is named, and there is no recommended one here, runs/<data set>/best: name a run's folder, such as "
            "runs/<data set>/<backbone>/<method>/<seed>"
        )
    if len(found) > 1:
        raise UserError(f"no run is named, and several are recommended: name one of {', '.join(map(str, found))}")
    return found[0]


def preprocess(view: TestView, image: Image.Image) -> Tensor:
    """The test crops of an upright RGB image, as from a packed data set: uint8 [crops, crop, crop, 3]."""
    if view.crops == ImprovedViewData.crops:
        return ten_crops([resize_shorter_edge(image, view.resize).copy()], view.crop)
    return torch.from_numpy(resize_square(image, view.crop).copy())[None]


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
