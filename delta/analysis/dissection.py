"""Network dissection (section 4.4, Table 4; Bau et al. 2017): the concept that each unit of a layer detects."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from delta.analysis.concepts import Annotation, Concepts
from delta.analysis.layer_maps import last_stage, layer_maps, upsample
from delta.data.images import map_in_order
from delta.data.packed.views import input_statistics, normalised
from delta.io.signals import say
from delta.networks.devices import deterministic, to_device
from delta.networks.network import Network
from delta.training.checkpoint import Checkpoint

EXCEEDED = 0.005  # the fraction of all positions at which a unit's map exceeds its threshold
DETECTS = 0.04  # a unit detects its best concept if their IoU is above this
TOP_IMAGES = 4

_MAX_UPSAMPLED = 1 << 25  # elements of one image's upsampled maps that are in memory at once
_MIN_BUFFER = 4096  # values per unit that are buffered, at least, before the largest are selected


@dataclass(frozen=True)
class Dissection:
    """The concepts that the units of a layer detect.

    Attributes:
        layer: the module's name in the backbone.
        units: one row per unit with its best concept: unit, threshold, label (its name), category, iou, detects.
        top_images: the images with the highest activation of each unit, in decreasing order, as rows of
            `Concepts.images`: int64 [units, ≤ 4].
    """

    layer: str
    units: pd.DataFrame
    top_images: np.ndarray


def dissect(
    network: Network,
    concepts: Concepts,
    crop: int,
    layer: str | None = None,
    batch_size: int = 32,
    progress: bool = False,
    checkpoint: Checkpoint | None = None,
) -> Dissection:
    """Dissect one layer of a network in two passes over all annotated images.

    The first pass determines the thresholds t_u. The second pass accumulates IoU(u, c) = |A_u ∩ L_c| / |A_u ∪ L_c|
    over the images that are annotated for the category of c, where A_u are the pixels at which the unit's upsampled
    map exceeds t_u.

    Args:
        network: on the device to compute on; its mode is restored.
        crop: pixels per side of the network's inputs.
        layer: a module's name in the backbone; None for the last stage.
        batch_size: images per batch.
        progress: whether to show progress bars.
        checkpoint: saves the result of the first pass; the caller removes it.

    Raises:
        UserError: there is no such layer, or an image or label map cannot be read.
    """
    rows = range(len(concepts))
    stream = partial(iterate_maps, crop=crop, batch_size=batch_size, progress=progress)
    with deterministic(), torch.inference_mode():
        layer = layer or last_stage(network, crop)
        saved = checkpoint and checkpoint.load(
            next(network.parameters()).device,
            concepts,
            parameters=(layer, crop, batch_size),
            weights=(network.spec, network.state_dict()),
        )
        if checkpoint and saved:
            thresholds, top_images = saved["thresholds"], saved["top_images"]
            say(f"{checkpoint.path}: resuming after the first pass")
        else:
            largest, top = None, TopImages(TOP_IMAGES)
            for maps, _ in stream(network, layer, concepts, rows):
                largest = largest or StreamingTopK(exceeding_positions(len(rows) * maps[0, 0].numel()) + 1)
                largest.add(maps.transpose(0, 1).flatten(1))
                top.add(maps.amax((2, 3)))
            assert largest is not None  # there are images
            thresholds, top_images = largest.smallest(), top.images
            if checkpoint:
                checkpoint.save({"thresholds": thresholds, "top_images": top_images})
        counts = IoUCounts(thresholds, len(concepts.labels), concepts.category_of)
        for maps, batch in stream(network, layer, concepts, rows, annotated=True):
            for image_maps, (_, annotation) in zip(maps, batch, strict=True):
                assert annotation is not None  # as `annotated` is True
                counts.add(image_maps, annotation)
    units = best_concepts(counts.iou(), concepts.labels)
    units.insert(1, "threshold", thresholds.cpu().numpy())
    return Dissection(layer, units, top_images.cpu().numpy())


def iterate_maps(
    network: Network,
    layer: str,
    concepts: Concepts,
    rows: Sequence[int],
    crop: int,
    batch_size: int = 32,
    progress: bool = False,
    annotated: bool = False,
) -> Iterator[tuple[Tensor, list[tuple[np.ndarray, Annotation | None]]]]:
    """A layer's maps for some of the annotated images, batch by batch; later images are decoded in the background.

    Args:
        rows: of `concepts.images`.
        crop: pixels per side of the network's inputs.
        batch_size: images per batch.
        progress: whether to show a progress bar.
        annotated: whether to read the annotations, too.

    Yields:
        The layer's rectified maps [b, units, h, w] on the network's device, and for each image its pixels, uint8
        [crop, crop, 3], and its annotation (None without `annotated`).

    Raises:
        UserError: there is no such layer, or an image or label map cannot be read.
    """
    device = next(network.parameters()).device
    statistics = input_statistics(network.spec, device)

    def read(index: int) -> tuple[np.ndarray, Annotation | None]:
        row = rows[index]
        return concepts.image(row, crop), concepts.annotation(row) if annotated else None

    def inputs(batch: list[tuple[np.ndarray, Annotation | None]]) -> Tensor:
        return normalised(to_device(torch.from_numpy(np.stack([pixels for pixels, _ in batch])), device), statistics)

    title = "dissect" if annotated else "thresholds"
    read_images = map_in_order(read, len(rows))
    bar = iter(tqdm(read_images, total=len(rows), desc=title, unit="image", disable=not progress))
    # The batches whose maps are not yielded yet. itertools.tee would keep up to 57 batches alive for longer.
    pending: deque[list[tuple[np.ndarray, Annotation | None]]] = deque()

    def batches() -> Iterator[Tensor]:
        while batch := list(islice(bar, batch_size)):
            pending.append(batch)
            yield inputs(batch)

    # Close the generators explicitly, so that the hooks are removed after an exception, too.
    with closing(read_images), closing(layer_maps(network, layer, batches())) as all_maps:
        for maps in all_maps:
            yield maps, pending.popleft()


def exceeding_positions(positions: int) -> int:
    """The number of positions, out of `positions`, at which a map may exceed its threshold."""
    return int(EXCEEDED * positions)


class StreamingTopK:
    """The `count` largest values of each unit in a stream of chunks; exact for any order and size of the chunks.

    Memory: about three times the values that are kept.
    """

    def __init__(self, count: int):
        self.count = count
        self._buffer: Tensor | None = None
        self._filled = 0

    def add(self, values: Tensor) -> None:
        """Add a chunk: float [units, n]."""
        if self._buffer is None:
            self._buffer = values.new_empty(len(values), self.count + max(2 * self.count, _MIN_BUFFER))
        while values.shape[1]:
            taken = min(values.shape[1], self._buffer.shape[1] - self._filled)
            self._buffer[:, self._filled : self._filled + taken] = values[:, :taken]
            self._filled, values = self._filled + taken, values[:, taken:]
            if self._filled == self._buffer.shape[1]:
                self._keep_largest(self._buffer)

    def smallest(self) -> Tensor:
        """The smallest of the `count` largest values of each unit, which at most `count` − 1 values exceed: [units]."""
        assert self._buffer is not None, "no values were added"
        self._keep_largest(self._buffer)
        return self._buffer[:, : self._filled].amin(1)

    def _keep_largest(self, buffer: Tensor) -> None:
        if self._filled > self.count:
            # A few units at a time, as topk also returns indices, which take twice the memory of the values.
            for units in buffer.split(128):
                units[:, : self.count] = units[:, : self._filled].topk(self.count, dim=1, sorted=False).values
            self._filled = self.count


class TopImages:
    """The images with the highest maximum of each unit's map; of ties, the earlier images.

    Attributes:
        images: their indices in the stream, in decreasing order of the maximum, int64 [units, ≤ count].
    """

    images: Tensor

    def __init__(self, count: int):
        self.count = count
        self._peaks: Tensor | None = None
        self._added = 0

    def add(self, peaks: Tensor) -> None:
        """Add the maxima of the next images' maps: [b, units]."""
        images = torch.arange(self._added, self._added + len(peaks), device=peaks.device).expand(peaks.shape[1], -1)
        self._added += len(peaks)
        peaks = peaks.T
        if self._peaks is not None:
            peaks, images = torch.cat([self._peaks, peaks], 1), torch.cat([self.images, images], 1)
        peaks, order = peaks.sort(dim=1, descending=True, stable=True)
        self._peaks, self.images = peaks[:, : self.count], images.gather(1, order[:, : self.count])


class IoUCounts:
    """Pixel counts of units and labels and of their intersections, accumulated over images.

    Attributes:
        thresholds: [units].
        intersections: |A_u ∩ L_c|, float64 [units, labels].
        unit_areas: |A_u| on the images that are annotated for each category, float64 [units, categories].
        label_areas: |L_c|, float64 [labels].
    """

    def __init__(self, thresholds: Tensor, labels: int, category_of: np.ndarray):
        self.thresholds, self._category_of = thresholds, torch.from_numpy(category_of).to(thresholds.device)
        units, categories = len(thresholds), int(category_of.max()) + 1
        zeros = partial(torch.zeros, dtype=torch.float64, device=thresholds.device)
        self.intersections, self.unit_areas = zeros(units, labels), zeros(units, categories)
        self.label_areas = zeros(labels)

    def add(self, maps: Tensor, annotation: Annotation) -> None:
        """Add one image.

        Upsampling does not increase a map's maximum, so only units whose maximum exceeds the threshold are upsampled.
        Pixels are counted in float32, which is exact up to 2^24.

        Args:
            maps: rectified, [units, h, w]; they are upsampled to the annotation's size.
            annotation: the image's.
        """
        labels, masks, categories = (
            to_device(torch.from_numpy(array), maps.device)
            for array in (annotation.labels, annotation.masks, annotation.categories)
        )
        height, width = masks.shape[1:]
        # An additional mask of ones: its intersection with a unit is the unit's area.
        float_masks = torch.ones(len(masks) + 1, height * width, device=maps.device)
        float_masks[:-1] = masks.flatten(1)
        self.label_areas[labels] += float_masks[:-1] @ float_masks[-1]
        active = (maps.amax((1, 2)) > self.thresholds).nonzero()
        for units in active.split(max(1, _MAX_UPSAMPLED // (height * width))) if len(active) else ():
            # Contiguous, as the kernel for channels-last maps rounds differently.
            exceeds = upsample(maps[units].contiguous(), (height, width)).flatten(1).gt_(self.thresholds[units])
            intersections = exceeds @ float_masks.T
            self.intersections[units, labels] += intersections[:, :-1]
            self.unit_areas[units, categories] += intersections[:, -1:]

    def iou(self) -> Tensor:
        """IoU(u, c), float64 [units, labels]; 0 if the union is empty."""
        union = self.unit_areas[:, self._category_of] + self.label_areas - self.intersections
        return self.intersections / union.where(union > 0, 1)


def best_concepts(iou: Tensor, labels: pd.DataFrame) -> pd.DataFrame:
    """The concept with the highest IoU for each unit; of ties, the first.

    Args:
        iou: [units, labels].
        labels: `Concepts.labels`.

    Returns:
        One row per unit: unit, label (its name), category, iou, detects (whether the IoU exceeds 0.04).
    """
    values: np.ndarray = iou.cpu().numpy()
    best, highest = labels.iloc[values.argmax(1)], values.max(1)
    columns = {"unit": range(len(values)), "label": best["name"].to_numpy(), "category": best["category"].to_numpy()}
    return pd.DataFrame(columns | {"iou": highest, "detects": highest > DETECTS})
