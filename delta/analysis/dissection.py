"""Network dissection (section 4.4, Table 4; Bau et al. 2017): which concept each unit of a layer detects."""

from __future__ import annotations

import os
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
from delta.analysis.layer_maps import last_stage, layer_maps, upsampled
from delta.data.images import in_order
from delta.data.packed.views import input_statistics, normalised
from delta.io.signals import say
from delta.networks.devices import deterministic, to_device
from delta.networks.network import Network
from delta.training.checkpoint import Checkpoint

EXCEEDED = 0.005  # share of all positions at which a unit's map exceeds its threshold
DETECTS = 0.04  # the IoU above which a unit detects its best concept
TOP_IMAGES = 4

_AT_ONCE = 1 << 25  # numbers in the up-sampled maps of one image that are held at once
_ROOM = 4096  # values a unit, at least, that are gathered before the largest are picked


@dataclass(frozen=True)
class Dissection:
    """What the units of a layer detect.

    Attributes:
        layer: the module's name in the backbone.
        units: a row a unit with its best concept: unit, threshold, label (its name), category, iou, detects.
        top_images: the images that activate each unit most, most first, as rows of the concepts: int64 [units, ≤ 4].
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
    """Dissect one layer of a network: two passes over all annotated images, in the test view.

    The first finds the thresholds t_u, the second accumulates IoU(u, c) = |A_u ∩ L_c| / |A_u ∪ L_c| over all images,
    A_u being where the unit's up-sampled map exceeds t_u, on the images that are annotated for c's category.

    Args:
        network: on the device that computes; left in the mode it came in.
        crop: pixels a side of the network's inputs.
        layer: a module's name in the backbone; None for the last stage.
        progress: show it.
        checkpoint: where the result of the first pass is kept; the caller removes it.

    Raises:
        UserError: there is no such layer, or an image or a map of the concepts cannot be read.
    """
    rows, every = range(len(concepts)), {"crop": crop, "batch_size": batch_size, "progress": progress}
    with deterministic(), torch.inference_mode():
        layer = layer or last_stage(network)
        saved = checkpoint and checkpoint.load(
            next(network.parameters()).device,
            concepts,
            parameters=(layer, crop, batch_size),
            weights=(network.spec, network.state_dict()),
        )
        if saved:
            thresholds, top_images = saved["thresholds"], saved["top_images"]
            say(f"{checkpoint.path}: going on with the thresholds found")
        else:
            largest, top = None, TopImages(TOP_IMAGES)
            for maps, _ in stream_maps(network, layer, concepts, rows, **every):
                largest = largest or LargestValues(exceeding(len(rows) * maps[0, 0].numel()) + 1)
                largest.add(maps.transpose(0, 1).flatten(1))
                top.add(maps.amax((2, 3)))
            thresholds, top_images = largest.least(), top.images
            if checkpoint:
                checkpoint.save({"thresholds": thresholds, "top_images": top_images})
        tallies = Tallies(thresholds, len(concepts.labels), concepts.category_of)
        for maps, batch in stream_maps(network, layer, concepts, rows, **every, annotated=True):
            for image, (_, annotation) in zip(maps, batch, strict=True):
                tallies.add(image, annotation)
    units = best_concepts(tallies.iou(), concepts.labels)
    units.insert(1, "threshold", thresholds.cpu().numpy())
    return Dissection(layer, units, top_images.cpu().numpy())


def stream_maps(
    network: Network,
    layer: str,
    concepts: Concepts,
    rows: Sequence[int],
    crop: int,
    batch_size: int = 32,
    progress: bool = False,
    annotated: bool = False,
) -> Iterator[tuple[Tensor, list[tuple[np.ndarray, Annotation | None]]]]:
    """Some of the annotated images, passed through a network batch by batch; the next are decoded meanwhile.

    Args:
        rows: of `concepts`.
        crop: pixels a side of the network's inputs.
        annotated: read their annotations as well.

    Yields:
        A layer's rectified maps [b, units, h, w] on the network's device; for each image its input, uint8
        [crop, crop, 3], and its annotation.

    Raises:
        UserError: there is no such layer, or an image or a map of the concepts cannot be read.
    """
    device = next(network.parameters()).device
    statistics = input_statistics(network.spec, device)

    def read(place: int) -> tuple[np.ndarray, Annotation | None]:
        row = rows[place]
        return concepts.image(row, crop), concepts.annotation(row) if annotated else None

    def inputs(batch: list[tuple[np.ndarray, Annotation | None]]) -> Tensor:
        return normalised(to_device(torch.from_numpy(np.stack([pixels for pixels, _ in batch])), device), statistics)

    what = "dissect" if annotated else "thresholds"
    read_images = in_order(read, len(rows), os.cpu_count() or 1)
    bar = iter(tqdm(read_images, total=len(rows), desc=what, unit="image", disable=not progress))
    passed = deque()  # not itertools.tee, which lets go of what both have had by 57 batches at a time

    def batches() -> Iterator[Tensor]:
        while batch := list(islice(bar, batch_size)):
            passed.append(batch)
            yield inputs(batch)

    # Closed, not left to the garbage collector: no hook stays behind whatever happens.
    with closing(read_images), closing(layer_maps(network, layer, batches())) as all_maps:
        for maps in all_maps:
            yield maps, passed.popleft()


def exceeding(positions: int) -> int:
    """At how many of so many positions a map may exceed its threshold."""
    return int(EXCEEDED * positions)


class LargestValues:
    """The largest values of each unit in a stream, exactly, whatever the order and size of its chunks.

    Memory: about three times as many values as are kept.
    """

    def __init__(self, count: int):
        self.count, self._held, self._filled = count, None, 0

    def add(self, values: Tensor) -> None:
        """Take a chunk: float [units, n]."""
        if self._held is None:
            self._held = values.new_empty(len(values), self.count + max(2 * self.count, _ROOM))
        while values.shape[1]:
            taken = min(values.shape[1], self._held.shape[1] - self._filled)
            self._held[:, self._filled : self._filled + taken] = values[:, :taken]
            self._filled, values = self._filled + taken, values[:, taken:]
            if self._filled == self._held.shape[1]:
                self._keep_largest()

    def least(self) -> Tensor:
        """The least of the `count` largest values of each unit, which at most `count` − 1 exceed: [units]."""
        self._keep_largest()
        return self._held[:, : self._filled].amin(1)

    def _keep_largest(self) -> None:
        if self._filled > self.count:
            # A few units at once: topk gives indices as well, which take twice the memory of the values.
            for units in self._held.split(128):
                units[:, : self.count] = units[:, : self._filled].topk(self.count, dim=1, sorted=False).values
            self._filled = self.count


class TopImages:
    """The images with the highest maximum of each unit's map, of equal ones the earlier.

    Attributes:
        images: their numbers in the stream, highest first, int64 [units, ≤ count].
    """

    def __init__(self, count: int):
        self.count, self.images, self._peaks, self._seen = count, None, None, 0

    def add(self, peaks: Tensor) -> None:
        """Take the maxima of the next images' maps: [b, units]."""
        images = torch.arange(self._seen, self._seen + len(peaks), device=peaks.device).expand(peaks.shape[1], -1)
        self._seen += len(peaks)
        peaks = peaks.T
        if self.images is not None:
            peaks, images = torch.cat([self._peaks, peaks], 1), torch.cat([self.images, images], 1)
        peaks, order = peaks.sort(dim=1, descending=True, stable=True)
        self._peaks, self.images = peaks[:, : self.count], images.gather(1, order[:, : self.count])


class Tallies:
    """Pixels that units and labels have, and have in common, over the images added so far.

    Attributes:
        thresholds: [units].
        intersections: |A_u ∩ L_c|, float64 [units, labels].
        unit_areas: |A_u| on the images that are annotated for a category, float64 [units, categories].
        label_areas: |L_c|, float64 [labels].
    """

    def __init__(self, thresholds: Tensor, labels: int, category_of: np.ndarray):
        self.thresholds, self._category_of = thresholds, torch.from_numpy(category_of).to(thresholds.device)
        units, categories = len(thresholds), int(category_of.max()) + 1
        zeros = partial(torch.zeros, dtype=torch.float64, device=thresholds.device)
        self.intersections, self.unit_areas = zeros(units, labels), zeros(units, categories)
        self.label_areas = zeros(labels)

    def add(self, maps: Tensor, annotation: Annotation) -> None:
        """Take one image.

        An up-sampled map nowhere exceeds the map's maximum, so that most units need not be up-sampled at all. Ones are
        summed in float32, which is exact up to 2^24 pixels.

        Args:
            maps: rectified, [units, h, w]; they are up-sampled to the annotation's size.
        """
        labels, masks, categories = (
            to_device(torch.from_numpy(array), maps.device)
            for array in (annotation.labels, annotation.masks, annotation.categories)
        )
        size = masks.shape[1:]
        # One layer more, of ones: what a unit has in common with it is its area.
        layers = torch.ones(len(masks) + 1, size.numel(), device=maps.device)
        layers[:-1] = masks.flatten(1)
        self.label_areas[labels] += layers[:-1] @ layers[-1]
        active = (maps.amax((1, 2)) > self.thresholds).nonzero()
        for units in active.split(max(1, _AT_ONCE // size.numel())) if len(active) else ():
            # The kernel for maps that lie channels last rounds otherwise.
            on = upsampled(maps[units].contiguous(), size).flatten(1).gt_(self.thresholds[units])
            common = on @ layers.T
            self.intersections[units, labels] += common[:, :-1]
            self.unit_areas[units, categories] += common[:, -1:]

    def iou(self) -> Tensor:
        """IoU(u, c), float64 [units, labels]; 0 where neither unit nor label is anywhere."""
        union = self.unit_areas[:, self._category_of] + self.label_areas - self.intersections
        return self.intersections / union.where(union > 0, 1)


def best_concepts(iou: Tensor, labels: pd.DataFrame) -> pd.DataFrame:
    """Each unit's concept with the highest IoU, of equal ones the first.

    Args:
        iou: [units, labels].
        labels: `Concepts.labels`.

    Returns:
        A row a unit: unit, label (its name), category, iou, detects (whether the IoU exceeds 0.04).
    """
    iou = iou.cpu().numpy()
    best = labels.iloc[iou.argmax(1)]
    columns = {"unit": range(len(iou)), "label": best["name"].to_numpy(), "category": best["category"].to_numpy()}
    return pd.DataFrame(columns | {"iou": iou.max(1), "detects": iou.max(1) > DETECTS})
