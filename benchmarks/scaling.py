"""Growth of time and memory with images, classes, filters and the size of maps, and the cost of large data sets.

    OMP_NUM_THREADS=1 python -m benchmarks.scaling --photographs FOLDER ... > benchmarks/scaling.md

takes about 10 minutes on one core. The packing of photographs is measured on some of those in each folder; without a
folder, on drawn ones, which JPEG compresses far better. `--photographs-alone` measures nothing else.

One quantity is doubled and quadrupled at a time (filters: by MobileNetV2's widths); each measurement is the minimum of
two in a separate process. An exponent is the slope of log time over log size. Memory is the process's peak increase,
without pages of memory-mapped files, which the system can reclaim.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image

from benchmarks.cost import SUSTAINED, SUSTAINED_ATTENTION, attention_flops, iteration_flops, ones, spec_of
from delta.analysis.activation_maps import activation_maps
from delta.analysis.concepts import Concepts
from delta.analysis.dissection import dissect
from delta.analysis.filter_distances import distances_by_seed
from delta.analysis.parts import part_activation
from delta.attention.importance import filter_importance
from delta.data.packed.ahead import read_ahead
from delta.data.packed.views import DefaultViewData, ImprovedViewData, ViewData
from delta.data.packing import write_packed, write_packed_whole
from delta.data.packing_config import Packing
from delta.data.split import assign_splits
from delta.datasets.drawn import draw
from delta.methods.registry import PAPER, method_class
from delta.networks.devices import deterministic, device_name, keep_freed_memory, pick_device
from delta.networks.network import Network, save_network, save_weights
from delta.report.results import read_results
from delta.sources.catalogue import SourceNetwork
from delta.training.config import Recipe, Training
from delta.training.evaluation import split_logits
from delta.training.loop import fine_tune
from delta.training.result import RunResult, TestView

CPU = torch.device("cpu")
WIDTHS = ("timm:mobilenetv2_050", "timm:mobilenetv2_100", "timm:mobilenetv2_140")
BATCH, ITERATIONS = 16, 8
FOOD_101 = ("Food-101", 75_750, 25_250, 101)
MILLION = ("a million images", 1_000_000, 50_000, 1000)


@dataclass(frozen=True)
class Size:
    """The size of a synthetic data set and of the network for it."""

    images: int = 64
    classes: int = 8
    side: int = 64
    network: str = WIDTHS[0]
    runs: int = 60

    @property
    def filters(self) -> int:
        return sum(len(each) for each in ones(self.random_network()).values())

    def random_network(self) -> Network:
        torch.manual_seed(0)
        return Network(spec_of(SourceNetwork(network=self.network)), self.classes).eval()

    def packed(self, folder: Path) -> Path:
        """Write a packed data set of random pixels with as many training as test images."""
        noise, targets = np.random.default_rng(0), np.arange(2 * self.images) % self.classes
        split = np.repeat(["train", "test"], self.images)
        paths, labels = [f"{place}" for place in range(len(split))], [f"{target:04}" for target in targets]
        folder.mkdir()
        index = pd.DataFrame({"path": paths, "label": labels, "target": targets, "split": split})
        index.to_csv(folder / "index.csv", index=False)
        for view, count in (("train_view", self.images), ("test_view", 2 * self.images)):
            pixels = noise.integers(256, size=(count, self.side, self.side, 3), dtype=np.uint8)
            np.save(folder / f"{view}.npy", pixels)
        return folder


BASE = Size()
GROWTH = {
    "images": [replace(BASE, images=64 * n) for n in (1, 2, 4)],
    "classes": [replace(BASE, classes=8 * n) for n in (1, 2, 4)],
    "filters": [replace(BASE, network=width) for width in WIDTHS],
    "map positions": [replace(BASE, side=side) for side in (64, 96, 128)],
    "runs": [replace(BASE, runs=60 * n) for n in (1, 2, 4)],
}


def amount(grows: str, size: Size) -> int:
    return {"map positions": (size.side // 32) ** 2}.get(grows) or getattr(size, grows)


# The stages: each function prepares a stage of some size, and returns the work to measure.


def packing(size: Size, folder: Path) -> Callable:
    noise, images = np.random.default_rng(0), folder / "images"
    pixels = np.kron(noise.integers(256, size=(32, 32, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    for place in range(2 * size.images):
        path = images / str(place % 2) / f"{place}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=90)
    paths = sorted(str(path.relative_to(images)) for path in images.glob("*/*.jpg"))
    table = pd.DataFrame({"path": paths, "label": [path[0] for path in paths]})
    index = assign_splits(table, size.images // 2, size.images // 2, seed=0)
    (folder / "packed").mkdir()
    return lambda: write_packed(images, index, size.side, size.side, folder / "packed")


def training(size: Size, folder: Path) -> Callable:
    data, (network, source) = (
        DefaultViewData.open(size.packed(folder / "packed")),
        (size.random_network() for _ in range(2)),
    )
    options = {"momentum": 0.9, "decay_after": 9000, "decay_factor": 0.1, "clip_norm": None, "class_weights": None}
    schedule = Training(iterations=ITERATIONS, batch_size=BATCH, precision="fp32", **options)
    recipe = Recipe(method_class("delta")(alpha=0.01), schedule, learning_rate=1e-6, crop=size.side, seed=0)
    return lambda: fine_tune(network, source, data, recipe, ones(network))


def testing(size: Size, folder: Path) -> Callable:
    data, network = DefaultViewData.open(size.packed(folder / "packed")), size.random_network()
    return lambda: split_logits(network, data, "test", BATCH)


def attention(estimator: str) -> Callable[[Size, Path], Callable]:
    def prepared(size: Size, folder: Path) -> Callable:
        data, network = DefaultViewData.open(size.packed(folder / "packed")), size.random_network()
        return lambda: filter_importance(network, data, estimator, BATCH)

    return prepared


def saved_run(size: Size, folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    save_network(size.random_network(), folder / name)
    return folder / name


def distances(size: Size, folder: Path) -> Callable:
    network, runs = size.random_network(), {name: {0: saved_run(size, folder, name)} for name in ("l2_sp", "delta")}
    save_weights(network.spec, network.backbone.state_dict(), folder / "source.safetensors")
    return lambda: distances_by_seed(folder / "source.safetensors", runs)


def parts(size: Size, folder: Path) -> Callable:
    packed, run = size.packed(folder / "packed"), saved_run(size, folder, "run")
    Image.new("RGB", (256, 256)).save(folder / "0.png")
    tests = [str(place) for place in range(size.images, 2 * size.images)]
    for path in tests:
        (folder / path).symlink_to("0.png")
    table = pd.DataFrame({"path": tests, "part": "eye", "x": 9.0, "y": 9.0, "visible": True})
    return lambda: part_activation({0: run}, packed, table, folder, CPU)


def dissecting(size: Size, folder: Path) -> Callable:
    draw(folder / "drawn", size.images // 8, seed=0)  # of ten classes
    concepts, network = Concepts.open(folder / "drawn" / "broden"), size.random_network()
    return lambda: dissect(network, concepts, size.side, None)


def map_measuring(size: Size, folder: Path) -> Callable:
    packed = size.packed(folder / "packed")
    runs = {name: saved_run(size, folder, name) for name in ("l2_fe", "l2_sp", "delta")}
    return lambda: activation_maps(runs, packed, size.classes, 3, CPU)


def gathering(size: Size, folder: Path) -> Callable:
    result = RunResult(
        label="DELTA",
        top1=50.0,
        macro=50.0,
        alpha=0.01,
        beta=0.01,
        penalty_share=1.0,
        penalty_share_first_epoch=1.0,
        iterations_per_epoch=9,
        source_network="ResNet",
        device="cpu",
        classes=["a", "b"],
        view=TestView(resize=256, crop=224, crops=1),
    )
    datasets, methods = [f"data_{number}" for number in range(size.runs // 30)], list(PAPER)
    runs = []
    for dataset, method, seed in product(datasets, methods, range(5)):
        run = folder / dataset / "resnet" / method / str(seed)
        run.mkdir(parents=True)
        result.write(run)
        runs.append((dataset, "resnet", method, seed, run))
    return lambda: read_results(runs)


STAGES = (
    ("split", packing, ("images", "map positions")),
    ("train, 8 iterations", training, ("images", "classes", "filters", "map positions")),
    ("testing", testing, ("images", "classes", "filters", "map positions")),
    ("estimate_attention, exact", attention("exact"), ("images", "classes", "filters", "map positions")),
    ("estimate_attention, fisher", attention("fisher"), ("images", "classes", "filters", "map positions")),
    ("measure_filter_distances", distances, ("filters",)),
    ("measure_parts", parts, ("images", "filters", "map positions")),
    ("dissect", dissecting, ("images", "filters", "map positions")),
    ("measure_activation_maps", map_measuring, ("images", "classes", "filters", "map positions")),
    ("tables", gathering, ("runs",)),
)


def resident() -> int:
    """Bytes of this process's anonymous memory (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def measured(place: int, size: Size) -> tuple[float, int]:
    """The seconds of a stage, and the peak increase of memory in bytes."""
    keep_freed_memory()
    seconds, added = [], []
    for _ in range(2):
        with TemporaryDirectory() as folder, deterministic():
            work, over, peaks = STAGES[place][1](size, Path(folder)), threading.Event(), [resident()]

            def watch(over: threading.Event = over, peaks: list[int] = peaks) -> None:
                while not over.wait(0.005):
                    peaks.append(resident())

            watcher = threading.Thread(target=watch)
            watcher.start()
            started = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - started)
            over.set()
            watcher.join()
            added.append(max(peaks) - peaks[0])
    return min(seconds), added[0]  # the memory of the first, as the second reuses it


def exponent(sizes: Sequence[int], values: Sequence[float]) -> str:
    return f"{np.polyfit(np.log(sizes), np.log(values), 1)[0]:.1f}"


def row(place: int, grows: str) -> str:
    sizes, results = GROWTH[grows], []
    for size in sizes:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            results.append(process.submit(measured, place, size).result())
    amounts, (seconds, added) = [amount(grows, size) for size in sizes], zip(*results, strict=True)
    cells = [
        STAGES[place][0],
        grows,
        " / ".join(f"{each:,}" for each in amounts),
        " / ".join(f"{each:.2g}" if each < 10 else f"{each:.0f}" for each in seconds),
        f"**{exponent(amounts, seconds)}**",
        " / ".join(f"{each / 1e6:.0f}" for each in added),
    ]
    return f"| {' | '.join(cells)} |"


PHOTOGRAPHS = 120  # of each folder
VIEWS = (("default", 256), ("default", 320), ("default", 224), ("default", 299), ("improved", 256), ("improved", 320))


class Packed(NamedTuple):
    """Photographs packed for a view: bytes of an image, and how many are read in a second of one core's time."""

    bytes: float
    rate: float
    images: list[np.ndarray]


def packed(root: Path, paths: Sequence[str], view: str, size: int, packing: Packing) -> Packed:
    index = pd.DataFrame({"path": paths, "label": "all", "target": 0, "split": "train"})
    data: ViewData
    with TemporaryDirectory() as name:
        out = Path(name)
        if view == "improved":
            write_packed_whole(root, index, size, out, packing)
            data = ImprovedViewData.open(out, size)
        else:
            write_packed(root, index, size, 32, out, packing)
            data = DefaultViewData.open(out)
        files = [*out.glob("train_view.*"), *out.glob("images.*")]
        batches, seconds = torch.arange(len(paths)).split(64), []
        for _ in range(5):
            started = time.process_time()
            images = [image for _, batch in read_ahead(data.training_images, batches) for image in batch]
            seconds.append(time.process_time() - started)
        return Packed(sum(file.stat().st_size for file in files) / len(paths), len(paths) / min(seconds), images)


def photographs(root: Path) -> float:
    """Print what packing the photographs in a folder takes; the bytes of a JPEG by pixel, over all views."""
    found = sorted(str(path.relative_to(root)) for path in root.rglob("*.jpg"))
    paths, shares = found[:: math.ceil(len(found) / PHOTOGRAPHS)], []
    for view, size in VIEWS:
        raw, jpeg = packed(root, paths, view, size, "raw"), packed(root, paths, view, size, "jpeg")
        pairs = zip(raw.images, jpeg.images, strict=True)
        error = mean(float(np.abs(one.astype(int) - other).mean()) for one, other in pairs)
        shares.append(3 * jpeg.bytes / raw.bytes)
        edge = "shorter edge " if view == "improved" else ""
        cells = [f"{root.name}, {len(paths)} of {len(found):,}", f"{edge}{size}"]
        cells += [f"{raw.bytes / 1e3:.0f}", f"{jpeg.bytes / 1e3:.1f}", f"{raw.bytes / jpeg.bytes:.1f}", f"{error:.1f}"]
        print(f"| {' | '.join(cells)} | {raw.rate:,.0f} | {jpeg.rate:,.0f} |", flush=True)
    return mean(shares)


def on_the_way(folders: Sequence[Path]) -> float:
    """Print how photographs are stored and read, and what a GPU asks for; the bytes of a JPEG by pixel."""
    print(
        "\n## Images on disk, and on their way to the GPU\n\n`packing: raw` stores pixels, `jpeg` JPEGs of quality 95 "
        "without chroma subsampling. The error is the mean absolute difference of a colour value (0 to 255). The "
        "rates are training images that `read_ahead` reads in a second of one core's time, decoding included; it "
        "takes up to four cores.\n"
    )
    print("| photographs | pixels | raw, kB | JPEG, kB | ratio | error | raw, a second | JPEG, a second |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    share = mean([photographs(folder) for folder in folders])
    spec = spec_of(SourceNetwork(network="resnet101"))
    asked = ", ".join(
        f"{SUSTAINED['bf16'] * 1e12 / iteration_flops(spec, 224, key):,.0f} of {method_class(key).label}"
        for key in ("delta", "l2", "l2_fe")
    )
    print(
        f"\nA JPEG takes {share:.2f} bytes a pixel on average, pixels take 3. At {SUSTAINED['bf16']} TFLOP/s, about an "
        f"A100 in bf16, ResNet-101 takes this many images a second at 224 pixels: {asked}."
    )
    return share


def large(rate: float, share: float) -> None:
    """Print the cost of ResNet-101 at 224 pixels on large data sets.

    Args:
        rate: images that a core packs per second.
        share: bytes of a JPEG by pixel.
    """
    spec = spec_of(SourceNetwork(network="resnet101"))
    speed, attention_speed = SUSTAINED["fp32"] * 1e12 * 3600, SUSTAINED_ATTENTION * 1e12 * 3600
    passing = iteration_flops(spec, 224, "l2_fe")
    step, exact = iteration_flops(spec, 224, "delta"), attention_flops(spec, 224)
    print("| | " + " | ".join(name for name, *_ in (FOOD_101, MILLION)) + " |\n| --- | ---: | ---: |")
    rows: dict[str, list[str]] = {}

    def add(name: str, text: str) -> None:
        rows.setdefault(name, []).append(text)

    for _, train, test, classes in (FOOD_101, MILLION):
        epochs, pixels = math.ceil(9000 * 64 / train), train * 256**2 + (train + test) * 224**2
        add("images, classes", f"{train:,} + {test:,}, {classes:,}")
        add("packing, hours of one core at 256 pixels", f"{(train + test) / rate / 3600:.2f}")
        add("packed on disk as pixels, GB", f"{3 * pixels / 1e9:,.0f}")
        add("packed on disk as JPEGs, GB", f"{share * pixels / 1e9:,.0f}")
        add("a DELTA run of 9,000 × 64 images, GPU-hours", f"{9000 * 64 * step / speed:.1f}")
        add("its tests, one an epoch, GPU-hours", f"{epochs * test * passing / speed:.1f}")
        add("attention, exact, GPU-hours", f"{train * exact / attention_speed:,.0f}")
        add("attention, fisher, GPU-hours", f"{train * 7 * passing / attention_speed:.1f}")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |")


def growth() -> float:
    """Print how each stage grows; the images that a core packs per second at 256 pixels."""
    print(
        f"MobileNetV2 with random weights ({BASE.network}), {BASE.images} training and as many test images of random "
        f"pixels, {BASE.classes} classes, {BASE.side} pixels a side, unless it is that which grows; images are passed "
        f"{BATCH} at a time. A last map has (side/32)² positions.\n"
    )
    print(
        "| stage | what grows | to | seconds | exponent | MB at the peak |\n| --- | --- | ---: | ---: | ---: | ---: |"
    )
    for place, (_, _, growing) in enumerate(STAGES):
        for grows in growing:
            print(row(place, grows), flush=True)
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        seconds, _ = process.submit(measured, 0, replace(BASE, images=256, side=256)).result()
    print(
        "\nWhat is decoded goes to disk image by image, and maps are used up batch by batch, so memory does not "
        "grow with the number of images."
    )
    return 2 * 256 / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=Path, nargs="+", metavar="FOLDER", default=[])
    parser.add_argument("--photographs-alone", action="store_true")
    arguments = parser.parse_args()
    options = " ".join(sys.argv[1:])
    command = f"OMP_NUM_THREADS={torch.get_num_threads()} python -m benchmarks.scaling {options}".rstrip()
    print("# How the stages scale\n")
    print(f"`{command}`, on {device_name(pick_device('cpu'))}, {os.cpu_count()} cores, PyTorch {torch.__version__}.\n")
    rate = None if arguments.photographs_alone else growth()
    with TemporaryDirectory() as name:
        draw(Path(name) / "drawn", 30, seed=0)
        share = on_the_way(arguments.photographs or [Path(name) / "drawn" / "256_ObjectCategories"])
    if rate is None:
        return
    print(
        "\n## What that makes of large data sets\n\n"
        f"ResNet-101 at 224 pixels, counted operations at {SUSTAINED['fp32']} TFLOP/s, which is what training reaches "
        f"in fp32 on an A100, about, and {SUSTAINED_ATTENTION} TFLOP/s for attention, which is computed without TF32; "
        "packing as measured here. The paper's number of iterations does not depend on the data set's size. "
        "Fine-tuning learns from 576,000 images, so a million get attention best by `fisher`.\n"
    )
    large(rate, share)


if __name__ == "__main__":
    main()
