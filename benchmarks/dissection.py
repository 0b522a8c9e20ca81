"""Speed and memory of network dissection, compared with a loop over units, and at the size of Broden.

    OMP_NUM_THREADS=1 python -m benchmarks.dissection > benchmarks/dissection.md        (2 minutes on 2 cores)

The network's forward passes are not measured; reading the annotations is.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from delta.analysis.concepts import Annotation, Concepts
from delta.analysis.dissection import IoUCounts, StreamingTopK, TopImages, exceeding_positions, iterate_maps
from delta.analysis.layer_maps import last_stage, upsample
from delta.data.images import map_in_order
from delta.datasets.drawn import draw
from delta.io.downloads import Downloads
from delta.networks.devices import deterministic, device_name, pick_device
from delta.networks.network import Network
from delta.sources.catalogue import SourceNetwork
from delta.sources.weights import source_weights

SLICE_IMAGES, LOOP_IMAGES, SLICE_CROP = 500, 30, 80  # the slice's images, those of the comparison, and the slice's crop
IMAGES, UNITS, MAP, SIDE, LABELS = 63_305, 2048, 7, 112, 1197  # Broden, and the last stage of a ResNet-101
CATEGORIES = ("color", "object", "part", "material", "scene", "texture")
BATCH, THRESHOLD_IMAGES, TALLY_IMAGES = 32, 4096, 512

T = TypeVar("T")


def read_annotations(concepts: Concepts, rows: list[int]) -> Iterator[Annotation]:
    """Read annotations like `iterate_maps`, in threads ahead of the consumer."""
    return map_in_order(lambda index: concepts.annotation(rows[index]), len(rows))


def thresholds_of(maps: Tensor) -> Tensor:
    largest = StreamingTopK(exceeding_positions(maps[:, 0].numel()) + 1)
    for batch in maps.split(BATCH):
        largest.add(batch.transpose(0, 1).flatten(1))
    return largest.smallest()


def tallied(maps: Tensor, concepts: Concepts, thresholds: Tensor) -> np.ndarray:
    tallies = IoUCounts(thresholds, len(concepts.labels), concepts.category_of)
    for image, annotation in zip(maps, read_annotations(concepts, list(range(len(maps)))), strict=True):
        tallies.add(image, annotation)
    return tallies.iou().cpu().numpy()


def looped(maps: Tensor, concepts: Concepts, thresholds: Tensor) -> np.ndarray:
    """The same as `tallied`, with a loop over images and units."""
    units, labels = len(thresholds), len(concepts.labels)
    both, label_area = np.zeros((units, labels)), np.zeros(labels)
    unit_area = np.zeros((units, len(concepts.categories)))
    for row, image in enumerate(maps):
        annotation = concepts.annotation(row)
        for label, there in zip(annotation.labels, annotation.masks, strict=True):
            label_area[label] += np.count_nonzero(there)
        for unit in range(units):
            up = upsample(image[None, unit : unit + 1].contiguous(), annotation.masks.shape[1:])[0, 0]
            mask = (up > thresholds[unit]).cpu().numpy()
            for category in annotation.categories:
                unit_area[unit, category] += np.count_nonzero(mask)
            for label, there in zip(annotation.labels, annotation.masks, strict=True):
                both[unit, label] += np.count_nonzero(mask & there)
    union = unit_area[:, concepts.category_of] + label_area - both
    return both / np.where(union > 0, union, 1)


def timed(work: Callable[..., T], *arguments) -> tuple[float, T]:
    started = time.perf_counter()
    result = work(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, result


def slice_network(folder: Path, device: torch.device) -> Network:
    """The slice's source network."""
    spec, state = source_weights(SourceNetwork(network="efficientnet_lite0"), Downloads(folder, folder / "checksums"))
    network = Network(spec, 10)
    network.backbone.load_state_dict(state)
    return network.to(memory_format=torch.channels_last).to(device)


def against_the_loop(folder: Path, device: torch.device) -> None:
    draw(folder / "drawn", SLICE_IMAGES // 10, seed=0)
    concepts, network = Concepts.open(folder / "drawn" / "broden"), slice_network(folder, device)
    stream = iterate_maps(network, last_stage(network, SLICE_CROP), concepts, range(SLICE_IMAGES), SLICE_CROP)
    all_maps = torch.cat([maps.clone(memory_format=torch.contiguous_format) for maps, _ in stream])
    # Images of every class, with maps in channels-last format like the network's.
    rows = list(range(0, SLICE_IMAGES, SLICE_IMAGES // LOOP_IMAGES))[:LOOP_IMAGES]
    seconds, thresholds = timed(thresholds_of, all_maps)
    some = Concepts(concepts.root, concepts.labels, concepts.images.iloc[rows].reset_index(drop=True))
    maps = all_maps[rows].contiguous(memory_format=torch.channels_last)
    tallied(maps[:4], some, thresholds)  # warm-up
    fast, iou = timed(tallied, maps, some, thresholds)
    slow, meant = timed(looped, maps, some, thresholds)
    units, side = all_maps.shape[1], all_maps.shape[2]
    print(
        f"## Against a loop over units, images and labels\n\nThe slice's concepts and its source network: {units:,} "
        f"units, {side} × {side} maps, annotations of 200 to 300 pixels a side, {len(concepts.labels)} labels. The "
        f"thresholds of {SLICE_IMAGES} images took {seconds:.2f} s; both then tally the same {LOOP_IMAGES} images.\n"
    )
    print("| | seconds | images/s |\n| --- | ---: | ---: |")
    for name, taken in (("loop", slow), ("`delta.analysis.dissection`", fast)):
        print(f"| {name} | {taken:.2f} | {LOOP_IMAGES / taken:.1f} |")
    print(
        f"\n{slow / fast:.0f} times as fast; the largest difference of an IoU is {np.abs(iou - meant).max():.1e} "
        f"({np.count_nonzero(meant):,} of them are not 0).\n",
        flush=True,
    )


def made_up_broden(root: Path, images: int) -> Concepts:
    """Annotations as dense as Broden's: maps of colours, of objects and two of parts; about 30 labels per image."""
    noise, folder = np.random.default_rng(0), root / "images"
    folder.mkdir(parents=True)
    ends = dict(zip(CATEGORIES, (11, 600, 850, 900, LABELS - 47, LABELS), strict=True))
    starts = dict(zip(CATEGORIES, (0, *list(ends.values())[:-1]), strict=True))
    numbers = {category: np.arange(starts[category], ends[category]) + 1 for category in CATEGORIES}
    rows = ["image,split,ih,iw,sh,sw," + ",".join(CATEGORIES)]
    for image in range(images):
        cells = {}
        for category, maps in (("color", 1), ("object", 1), ("part", 2)):
            files = [f"{image}_{category}_{place}.png" for place in range(maps)]
            for file in files:
                some = noise.choice(numbers[category], min(9, len(numbers[category])), replace=False)
                patches = np.kron(noise.choice([0, *some], (14, 14)), np.ones((8, 8), int))
                bands = np.stack([patches % 256, patches // 256, 0 * patches], axis=-1).astype(np.uint8)
                Image.fromarray(bands).save(folder / file)
            cells[category] = ";".join(files)
        cells["scene"] = str(noise.choice(numbers["scene"]))
        if image % 10 == 0:
            cells["texture"] = str(noise.choice(numbers["texture"]))
            cells["material"] = str(noise.choice(numbers["material"]))
        joined = ",".join(cells.get(category, "") for category in CATEGORIES)
        rows.append(f"{image}.jpg,train,224,224,{SIDE},{SIDE},{joined}")
    (root / "index.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    labels = [f"{n},label {n},{category}(1),1,1," for category in CATEGORIES for n in numbers[category]]
    (root / "label.csv").write_text("\n".join(["number,name,category,frequency,coverage,syns", *labels, ""]), "utf-8")
    return Concepts.open(root)


def made_up_maps(images: int, device: torch.device) -> Tensor:
    """Smooth and sparse rectified maps; units differ in how often they are active, images in how strongly."""
    generator = torch.Generator().manual_seed(0)
    maps = avg_pool2d(torch.randn(images, UNITS, MAP + 2, MAP + 2, generator=generator), 3, 1)
    maps = maps + 0.3 * torch.randn(images, UNITS, 1, 1, generator=generator)
    return (maps - 0.4 * torch.rand(1, UNITS, 1, 1, generator=generator)).relu().to(device)


def at_brodens_size(folder: Path, device: torch.device) -> None:
    concepts, pool = made_up_broden(folder / "broden", 256), made_up_maps(256, device)
    strength = torch.Generator().manual_seed(1)
    largest, top, thresholds_took = StreamingTopK(exceeding_positions(IMAGES * MAP * MAP) + 1), TopImages(4), 0.0
    for batch in islice(cycle(pool.split(BATCH)), THRESHOLD_IMAGES // BATCH):
        maps = batch * (0.5 + torch.rand(1, generator=strength).to(device))

        def first_pass(maps: Tensor = maps) -> None:
            largest.add(maps.transpose(0, 1).flatten(1))
            top.add(maps.amax((2, 3)))

        thresholds_took += timed(first_pass)[0]
    thresholds_took += timed(largest.smallest)[0]
    values = pool.transpose(0, 1).flatten(1)
    thresholds = values.topk(exceeding_positions(values.shape[1]) + 1).values[:, -1].clone()
    del values
    tallies = IoUCounts(thresholds, len(concepts.labels), concepts.category_of)

    def second_pass() -> None:
        read = read_annotations(concepts, list(islice(cycle(range(256)), TALLY_IMAGES)))
        for maps, annotation in zip(cycle(pool), read, strict=False):
            tallies.add(maps, annotation)

    tallies_took, _ = timed(second_pass)
    labels = np.mean([len(concepts.annotation(row).labels) for row in range(256)])
    active = (pool.amax((2, 3)) > thresholds).float().mean().item()
    print(
        f"## At Broden's size\n\nSynthetic: {UNITS:,} units, {MAP} × {MAP} maps, annotations of {SIDE} × {SIDE} px, "
        f"{len(concepts.labels):,} labels of which an image has {labels:.0f}, {100 * active:.0f} % of the units above "
        f"their threshold in an image. {exceeding_positions(IMAGES * MAP * MAP) + 1:,} values per unit are kept, as "
        f"for {IMAGES:,} images; {THRESHOLD_IMAGES:,} images fill and merge them, {TALLY_IMAGES} are tallied.\n"
    )
    print("| | images/s | hours for Broden |\n| --- | ---: | ---: |")
    for name, rate in (
        ("thresholds and top images", THRESHOLD_IMAGES / thresholds_took),
        ("tallies", TALLY_IMAGES / tallies_took),
    ):
        print(f"| {name} | {rate:.0f} | {IMAGES / rate / 3600:.2f} |")


def peak() -> float:
    """The process's peak memory so far (GB), and on a GPU that of its tensors."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9


def main() -> None:
    device = pick_device("auto")
    command = f"OMP_NUM_THREADS={torch.get_num_threads()} python -m benchmarks.dissection"
    print("# Network dissection, without the forward passes\n")
    print(f"`{command}`, on {device_name(device)}, {os.cpu_count()} cores.\n")
    with TemporaryDirectory() as folder, deterministic(), torch.inference_mode():
        against_the_loop(Path(folder), device)
        at_brodens_size(Path(folder), device)
    gpu = f", of the GPU {torch.cuda.max_memory_allocated() / 1e9:.1f} GB" if device.type == "cuda" else ""
    print(f"\nPeak memory of the process, both parts and their made-up maps included: {peak():.1f} GB{gpu}.")


if __name__ == "__main__":
    main()
