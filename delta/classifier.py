"""A finished run in use: the classes of image files, seen as the run's own test images were."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, PositiveInt
from torch import Tensor

from delta.devices import deterministic, moved
from delta.errors import UserError
from delta.evaluation import image_logits, in_eval_mode
from delta.images import BROKEN_IMAGE, decode, in_order, reason, scaled, squashed
from delta.networks import Network, trained_network
from delta.views import PackedWhole, input_statistics, normalised, ten_crops

_CPU = torch.device("cpu")
_RESULT = "result.json"


class View(BaseModel):
    """How a run sees test images.

    Attributes:
        resize: pixels of the shorter edge in the improved view; no matter in the default view.
        crop: pixels a side of what the network sees.
        crops: of an image; 1 in the default view, the image squashed to the crop, and 10 in the improved view.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    resize: PositiveInt
    crop: PositiveInt
    crops: Literal[1, 10]

    def crops_of(self, image: Image.Image) -> Tensor:
        """An upright RGB image's test crops, uint8 [crops, crop, crop, 3], as a packed data set gives them."""
        if self.crops == PackedWhole.crops:
            return ten_crops([scaled(image, self.resize).copy()], self.crop)
        return torch.from_numpy(squashed(image, self.crop).copy())[None]


class _Result(BaseModel):
    """What of a run's result.json is needed to use it."""

    classes: list[str]
    view: View


@dataclass(frozen=True)
class Seen:
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
    view: View

    @classmethod
    def open(cls, run: Path, device: torch.device = _CPU) -> Self:
        """The classifier that a run's folder holds, see `delta.runs.write_run`, on a device.

        Raises:
            UserError: the folder is no run, or one that does not say how it sees images.
        """
        if not (run / _RESULT).is_file():
            raise UserError(f"{run}: not a run's folder, as runs/<data set>/<backbone>/<method>/<seed> is")
        try:
            content = json.loads((run / _RESULT).read_text(encoding="utf-8"))
            if "view" not in content:
                raise UserError(f"{run}: an older run, which does not say how it sees images: run `dvc repro`")
            result = _Result.model_validate(content)
        except (OSError, ValueError, TypeError):  # pydantic's ValidationError is a ValueError
            raise UserError(f"{run / _RESULT}: not the result of a run: run `dvc repro`") from None
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
            crops: uint8 [b, crops, crop, crop, 3], see `View.crops_of`.
        """
        device = next(self.network.parameters()).device
        statistics = input_statistics(self.network.spec, device)
        with torch.inference_mode(), in_eval_mode(self.network), deterministic():
            return image_logits(self.network, normalised(moved(crops.flatten(0, 1), device), statistics), len(crops))

    def classify(self, paths: Sequence[Path], batch_size: int = 64, workers: int | None = None) -> Iterator[Seen]:
        """Classify image files, in their order; one that cannot be decoded says why and stops nothing.

        Args:
            batch_size: crops that pass the network at once.
            workers: threads that decode, by default one a processor.
        """

        def attempt(place: int) -> Tensor | str:
            try:
                return self.view.crops_of(decode(paths[place]))
            except BROKEN_IMAGE as error:
                return reason(error)

        found = in_order(attempt, len(paths), workers or os.cpu_count() or 1)
        images = max(1, batch_size // self.view.crops)
        rest = iter(paths)
        while batch := list(islice(found, images)):
            readable = [crops for crops in batch if isinstance(crops, Tensor)]
            rows = iter(self.logits(torch.stack(readable)).softmax(1).cpu().numpy() if readable else ())
            for path, crops in zip(islice(rest, len(batch)), batch, strict=True):
                yield Seen(path, next(rows)) if isinstance(crops, Tensor) else Seen(path, None, crops)


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
