"""What a GPU makes of this project: its numbers against the CPU's, the time and memory of a step, and of attention.

    python -m benchmarks.gpu > benchmarks/gpu.md        (about ten minutes; nothing is downloaded)

    --minutes 5                another limit; what is left out then is named
    --network resnet50         only this network; may be repeated
    --device cuda:1            another card
    --tiny                     everything with the smallest images, to try this script on a CPU

Networks have random weights. A row is printed as soon as it is measured. What fails becomes a row with its error, and a
batch that does not fit into the memory is halved. Progress and tracebacks go to standard error.
"""

from __future__ import annotations

import argparse
import copy
import gc
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import date
from functools import cache, partial
from itertools import cycle, islice, product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
import pandas as pd
import timm
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.attention import random_network
from benchmarks.cost import ones
from delta.attention.fisher import estimate_loss_increases
from delta.attention.importance import filter_importance
from delta.attention.normalization import channel_weights
from delta.attention.removal import FilterRemoval, fold_batch_norms, step_inputs
from delta.data.packed.views import DefaultViewData
from delta.data.packing import write_packed
from delta.data.packing_config import Packing
from delta.data.split import assign_splits
from delta.datasets.drawn import draw
from delta.io.errors import UserError, exit_on_user_error
from delta.io.nvidia import driver_version
from delta.methods.base import Method, Run
from delta.methods.registry import method_class
from delta.networks.devices import deterministic, device_name, full_float32, pick_device
from delta.networks.network import Network
from delta.training.config import Recipe, Training
from delta.training.loop import fine_tune, objective
from delta.training.state import Step, TrainingState

T = TypeVar("T")
Rows: TypeAlias = Sequence[Sequence[str]]  # cells of a table's rows

METHODS = ("l2_fe", "l2", "l2_sp", "l2_sp_att", "delta_wo_att", "delta")
PRECISIONS = ("fp32", "bf16")
PACKINGS: tuple[Packing, ...] = ("raw", "jpeg")
LEARNING_RATE = 1e-7  # so low that random weights stay finite
SMALLEST = 2  # images in a batch: batch norms need more than one
CLASSES = 10
EPOCHS = 4  # of `fine_tune`
MAX_ERROR = 120  # characters of an error in a row
Mode: TypeAlias = Callable[[], AbstractContextManager[None]]
FLOAT32: tuple[Mode, ...] = (full_float32, nullcontext)  # float32 itself; PyTorch's default, TF32 in convolutions
DETERMINISTIC: tuple[Mode, ...] = (deterministic, nullcontext)


class Case(NamedTuple):
    """A network and the images that it sees.

    Attributes:
        crop: pixels per side.
        batch: images in a training batch; half as many in a batch of attention, as in `filter_importance`.
    """

    network: str
    crop: int
    batch: int = 64

    @property
    def title(self) -> str:
        return f"{self.network}, {self.crop} px"

    @property
    def resize(self) -> int:
        return round(self.crop * 256 / 224)


class Size(NamedTuple):
    """How much is measured.

    Attributes:
        cases: the networks.
        seconds: for the timing of one thing, in which it is repeated.
        warm_up: iterations that are not timed.
        turns: how often two ways to do something take turns.
        compared: images whose logits and importance are compared with the CPU's.
        filters: of each layer that are removed for that, and of each layer that are timed.
        learned: pixels per side and number of the images whose attention is learned as a stage does.
        drawn: images per class that are drawn for `fine_tune`.
        per_epoch: iterations in an epoch of it.
    """

    cases: tuple[Case, ...]
    seconds: float
    warm_up: int
    turns: int
    compared: int
    filters: tuple[int, int]
    learned: tuple[int, int]
    drawn: int
    per_epoch: int


FULL = Size(
    cases=(
        Case("resnet101", 224),
        Case("inception_v3", 299),
        Case("resnet50", 224),
        Case("efficientnet_lite0", 224),
    ),
    seconds=1,
    warm_up=3,
    turns=2,
    compared=2,
    filters=(4, 32),
    learned=(80, 16),
    drawn=4,
    per_epoch=4,
)
TINY = Size(
    cases=tuple(case._replace(crop=75 if case.network == "inception_v3" else 32, batch=2) for case in FULL.cases),
    seconds=0,
    warm_up=0,
    turns=1,
    compared=2,
    filters=(1, 2),
    learned=(32, 2),
    drawn=2,
    per_epoch=1,
)


class Clock:
    """The time since the start, and how much of it a section may take."""

    def __init__(self, minutes: float):
        self._started, self._limit = time.monotonic(), 60 * minutes

    def seconds(self) -> float:
        return time.monotonic() - self._started

    def has_left(self, share: float) -> bool:
        """Whether less than a share of all the time has passed."""
        return self.seconds() < share * self._limit


class Table:
    """A section of the page with a table whose rows are printed as they are measured.

    Attributes:
        share: the share of all the time after which no further row is measured.
    """

    def __init__(self, bench: Bench, share: float, title: str, text: str, columns: str):
        self._bench, self._share, self._title, self._columns = bench, share, title, columns.split(" | ")
        print(f"\n## {title}\n\n{text}\n")
        print(f"| {columns} |\n|{' --- |' * len(self._columns)}", flush=True)

    def add(self, key: Sequence[str], work: Callable[[], Rows]) -> None:
        """Print the rows that `work` returns, each after the cells of `key`; one that says why, if there are none."""
        self._bench.say(f"{self._title}: {', '.join(key)}")
        rows: Rows = [["not measured: no time left"]]
        if self._bench.clock.has_left(self._share):
            try:
                rows = work()
            except Exception as error:  # whatever it is, the other rows are worth having
                traceback.print_exc()
                rows = [["failed: " + one_line(error)]]
        for row in rows:
            cells = [*key, *row]
            print(f"| {' | '.join([*cells, *[''] * (len(self._columns) - len(cells))])} |", flush=True)
        free(self._bench.device)

    def add_fitting(self, key: Sequence[str], work: Callable[[int], Rows], batch: int) -> None:
        """The same with the rows of the largest batch that fits into the memory, and that batch as their first cell."""

        def rows() -> Rows:
            found, tried = self._bench.fitting(work, batch)
            cell = f"{tried}" if tried == batch else f"{tried} ({2 * tried} does not fit)"
            return [[cell, *row] for row in found]

        self.add(key, rows)


class Bench:
    """What all sections use."""

    def __init__(self, size: Size, device: torch.device, minutes: float):
        self.size, self.device, self.clock = size, device, Clock(minutes)
        self.network = cache(lambda case: random_network(case.network, case.crop, torch.device("cpu")))
        self._flops: dict[tuple[Case, bool, bool], float] = {}
        self._held: tuple[Case, tuple[Network, Network]] | None = None

    def say(self, text: str) -> None:
        """Report progress on standard error."""
        print(f"[{self.clock.seconds():5.0f} s] {text}", file=sys.stderr, flush=True)

    def pair(self, case: Case) -> tuple[Network, Network]:
        """A case's network twice on the device, in eval mode. The first one may be trained: every call resets it."""
        if self._held is None or self._held[0] != case:
            self._held = None  # before the next ones are made
            one, other = (copy.deepcopy(self.network(case)).to(self.device) for _ in range(2))
            self._held = case, (one, other)
        network, source = self._held[1]
        network.load_state_dict(self.network(case).state_dict())
        network.eval().requires_grad_(True).zero_grad()
        return network, source

    def flops(self, case: Case, key: str, step: Callable[[], None], batch: int) -> float:
        """FLOPs per image of a step, counted at the first step of its kind."""
        kind = case, method_class(key).frozen_backbone, method_class(key).compares_maps
        if kind not in self._flops:
            with FlopCounterMode(display=False) as counter:
                step()
            self._flops[kind] = counter.get_total_flops() / batch
        return self._flops[kind]

    def batch(self, case: Case, count: int) -> tuple[Tensor, Tensor]:
        """Random images and targets, the same in every call, on the device."""
        images, targets = random_batch(case.crop, count)
        return images.to(self.device), targets.to(self.device)

    def warm_up(self, work: Callable[[], object], at_most: int = 10) -> None:
        for _ in range(min(at_most, self.size.warm_up)):
            work()

    def seconds(self, work: Callable[[], object]) -> float:
        """How long a piece of work takes, until the GPU is done with it."""
        synchronize(self.device)
        started = time.perf_counter()
        work()
        synchronize(self.device)
        return time.perf_counter() - started

    def mean_seconds(self, work: Callable[[], object]) -> float:
        """How long a piece of work takes when it is repeated without waiting for the GPU in between."""
        once = self.seconds(work)
        count = min(20, int(self.size.seconds / once))
        return self.seconds(lambda: [work() for _ in range(count)]) / count if count > 1 else once

    def fitting(self, work: Callable[[int], T], batch: int) -> tuple[T, int]:
        """The result of `work` with the first of batch, batch / 2, … that fits into the memory, and that batch."""
        while True:
            try:
                return work(batch), batch
            except torch.OutOfMemoryError:
                if batch // 2 < SMALLEST:
                    raise
            # Only here, after the error with the tensors in its traceback, memory can be freed.
            free(self.device)
            batch //= 2
            self.say(f"out of memory: trying {batch} images")

    def peak(self) -> str:
        """The peak of the GPU's memory since it was last reset, in GB."""
        return f"{torch.cuda.max_memory_allocated(self.device) / 1e9:.1f}" if self.device.type == "cuda" else "—"

    def reset_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)


def random_batch(crop: int, count: int) -> tuple[Tensor, Tensor]:
    """Images [count, 3, crop, crop] and targets [count]."""
    images = torch.randn(count, 3, crop, crop, generator=torch.Generator().manual_seed(1))
    return images.to(memory_format=torch.channels_last), torch.arange(count) % CLASSES


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free(device: torch.device) -> None:
    """Give the GPU's memory of what is no longer used back."""
    if device.type == "cuda":
        gc.collect()
        # After some errors every further call fails; the rows that say so are printed all the same.
        with suppress(RuntimeError):
            torch.cuda.empty_cache()


def one_line(error: Exception) -> str:
    """An error as a cell of a table."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}".replace("|", "\\|")
    return text if len(text) <= MAX_ERROR else f"{text[:MAX_ERROR]}…"


def method_of(key: str) -> Method:
    kind = method_class(key)
    return kind(alpha=0.01, beta=0.01) if kind.has_penalty() else kind(weight_decay=1e-4)


def recipe_of(method: Method, precision: str, iterations: int, batch: int, crop: int) -> Recipe:
    options = {"momentum": 0.9, "decay_after": 6000, "decay_factor": 0.1, "clip_norm": None, "class_weights": None}
    training = Training(iterations=iterations, batch_size=batch, precision=precision, **options)
    return Recipe(method, training, LEARNING_RATE, crop, seed=0)


def attention_of(network: Network, method: Method) -> dict[str, Tensor]:
    return ones(network) if method.uses_attention else {}


def stepper(network: Network, source: Network, key: str, precision: str, x: Tensor, y: Tensor) -> Callable[[], None]:
    """An iteration of `fine_tune` on a batch that is already on the device."""
    method = method_of(key)
    source.eval().requires_grad_(False)
    network.train()
    network.backbone.train(not method.frozen_backbone).requires_grad_(not method.frozen_backbone)
    weights = attention_of(network, method)
    run = Run(network.backbone, network.head, source.backbone, (), None, lambda: [(x, y)], len(y), 1, len(x), seed=0)
    state = TrainingState(network, recipe_of(method, precision, 1, len(x), x.shape[-1]), 1, run)

    def step() -> None:
        terms = objective(network, source, x, y, method, weights, precision)
        state.optimizer.zero_grad()
        terms.loss.backward()
        state.optimizer.step()
        state.advance(terms)

    return step


def kernels(step: Callable[[], None], device: torch.device) -> tuple[str, str]:
    """The number of kernels that a step launches, and the milliseconds that the GPU is busy with them."""
    if device.type != "cuda":
        return "—", "—"
    try:
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            step()
            synchronize(device)
        on_device = [event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    except Exception:  # some systems do not let everyone profile
        traceback.print_exc()
        return "—", "—"
    launched = [event for event in on_device if not event.name.startswith(("Memcpy", "Memset"))]
    busy = sum(event.time_range.elapsed_us() for event in on_device) / 1e3
    return (f"{len(launched):,}", f"{busy:.1f}") if launched else ("—", "—")


def card(bench: Bench, command: str) -> None:
    """Print what was measured on."""
    device, on_gpu = bench.device, bench.device.type == "cuda"
    print(f"# Measured on {device_name(device)}\n\n`{command}`, {date.today()}.\n\n| | |\n| --- | --- |")
    rows = {"device": device_name(device)}
    if on_gpu:
        properties = torch.cuda.get_device_properties(device)
        rows |= {
            "memory": f"{properties.total_memory / 1e9:.0f} GB",
            "compute capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": f"{properties.multi_processor_count}",
            "driver": driver_version() or "unknown",
            "bf16": "yes" if torch.cuda.is_bf16_supported(including_emulation=False) else "emulated",
        }
    cudnn = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
    rows |= {
        "PyTorch, CUDA, cuDNN": f"{torch.__version__}, {torch.version.cuda}, {cudnn}",
        "timm, Python": f"{timm.__version__}, {platform.python_version()}",
        "CPU": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "system": platform.platform(),
    }
    for name, value in rows.items():
        print(f"| {name} | {value} |", flush=True)


def numbers(network: Network, x: Tensor, y: Tensor, few: int) -> dict[str, Tensor]:
    """Logits and filter importance, exact for a few filters per layer and estimated for all, by what they are."""
    with torch.no_grad():
        inputs, logits = step_inputs(network, x)
        folded, loss = fold_batch_norms(network, x), cross_entropy(logits.double(), y, reduction="sum")
        found = {"logits": logits}
        for layer in network.spec.feature_layers:
            removal = FilterRemoval(network, folded, layer, inputs)
            filters = torch.linspace(0, removal.filters - 1, few, device=x.device).long()
            found[f"W of {few} filters, {layer}"] = removal.losses(inputs[removal.start], y, filters) - loss
    found |= {f"W by `fisher`, {layer}": w for layer, w in estimate_loss_increases(network, x, y).items()}
    return {name: each.double().cpu() for name, each in found.items()}


def difference(found: Tensor, meant: Tensor) -> str:
    """The largest difference, relative to the largest number."""
    return f"{((found - meant).abs().max() / meant.abs().max()).item():.0e}"


def compare_with_cpu(bench: Bench) -> None:
    table = Table(
        bench,
        0.2,
        "Against the CPU",
        "The largest difference from the CPU's numbers in float64, relative to the largest of them: "
        f"{bench.size.compared} images; W is Equation (9). TF32 is how PyTorch computes convolutions by default. The "
        f"last row is what `filter_importance` and `channel_weights` make of {bench.size.learned[1]} images of "
        f"{bench.size.learned[0]} pixels, always in float32, against the CPU's.",
        "network | what | CPU, float32 | float32 | TF32",
    )
    for case in bench.size.cases:
        table.add([case.title], partial(differences, bench, case))
    table.add(["efficientnet_lite0"], partial(learned_difference, bench))


def differences(bench: Bench, case: Case) -> Rows:
    network, few = bench.network(case), bench.size.filters[0]
    x, y = random_batch(case.crop, bench.size.compared)
    meant = numbers(copy.deepcopy(network).double(), x.double(), y, few)
    found, (moved, _) = [numbers(network, x, y, few)], bench.pair(case)
    for precision in FLOAT32:
        with precision():
            found.append(numbers(moved, x.to(bench.device), y.to(bench.device), few))
    return [[name, *(difference(each[name], value) for each in found)] for name, value in meant.items()]


def learned_difference(bench: Bench) -> Rows:
    crop, images = bench.size.learned
    network, data = random_network("efficientnet_lite0", crop, torch.device("cpu")), random_data(crop, images)

    def weights() -> Tensor:
        importance = {layer: w.numpy() for layer, w in filter_importance(network, data).items()}
        return torch.from_numpy(np.concatenate([*channel_weights(importance, "standardized").values()]))

    meant = weights()
    network.to(bench.device)
    return [["C·W_j of all filters", "", difference(weights(), meant)]]


def random_data(crop: int, images: int) -> DefaultViewData:
    """A packed data set of random pixels in memory, all of it training images."""
    targets = [i % CLASSES for i in range(images)]
    index = pd.DataFrame({"path": "", "label": [f"class {t}" for t in targets], "target": targets, "split": "train"})
    pixels = np.random.default_rng(0).integers(0, 256, (images, crop, crop, 3), dtype=np.uint8)
    return DefaultViewData(index.assign(train_row=range(images)), train_view=pixels, test_view=pixels)


def measure_steps(bench: Bench) -> None:
    table = Table(
        bench,
        0.55,
        "A training step",
        "Loss, gradient and update, with deterministic algorithms, as runs are trained. `busy` is the time that the "
        "GPU computes in a step, `Python` the time in which Python launches one, measured with two images: where it "
        "is close to the step's, the GPU waits for Python. TFLOP/s are counted for convolutions and matrix products.",
        "network | method | precision | images | step (ms) | busy (ms) | Python (ms) | kernels | images/s | TFLOP/s | "
        "peak memory (GB)",
    )
    for case, precision, key in product(bench.size.cases, PRECISIONS, METHODS):
        work = partial(step_row, bench, case, precision, key)
        table.add_fitting([case.title, method_class(key).label, precision], work, case.batch)


def step_row(bench: Bench, case: Case, precision: str, key: str, batch: int) -> Rows:
    (network, source), (x, y) = bench.pair(case), bench.batch(case, batch)
    bench.reset_peak()
    with deterministic():
        step = stepper(network, source, key, precision, x, y)
        flops = batch * bench.flops(case, key, step, batch)
        bench.warm_up(step)
        taken, peak = bench.mean_seconds(step), bench.peak()
        count, busy = kernels(step, bench.device)
        small = stepper(network, source, key, precision, x[:SMALLEST], y[:SMALLEST]) if batch > SMALLEST else step
        launches = []
        for _ in range(1 + 2 * bench.size.warm_up):
            synchronize(bench.device)
            started = time.perf_counter()
            small()
            launches.append(time.perf_counter() - started)
    rates = [f"{batch / taken:.0f}", f"{flops / taken / 1e12:.2f}"]
    return [[f"{1e3 * taken:.1f}", busy, f"{1e3 * median(launches):.1f}", count, *rates, peak]]


def price_determinism(bench: Bench) -> None:
    table = Table(
        bench,
        0.65,
        "The price of determinism",
        "A step with deterministic algorithms and without, in turn.",
        "network | method | precision | images | deterministic (ms) | not (ms) | ratio",
    )
    for case, precision, key in product(bench.size.cases, PRECISIONS, ("l2", "delta")):
        work = partial(determinism_row, bench, case, precision, key)
        table.add_fitting([case.title, method_class(key).label, precision], work, case.batch)


def determinism_row(bench: Bench, case: Case, precision: str, key: str, batch: int) -> Rows:
    step = stepper(*bench.pair(case), key, precision, *bench.batch(case, batch))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(bench.size.turns):
        for taken, mode in zip(times, DETERMINISTIC, strict=True):
            with mode():
                bench.warm_up(step)
                taken.append(bench.mean_seconds(step))
    slow, fast = map(min, times)
    return [[f"{1e3 * slow:.1f}", f"{1e3 * fast:.1f}", f"{slow / fast:.2f}"]]


def measure_iterations(bench: Bench, folder: Path) -> None:
    table = Table(
        bench,
        0.75,
        "A whole iteration",
        "An iteration of `fine_tune` with images that are packed as pixels or as JPEGs; threads read and decode them "
        "while the GPU computes. A step finds its images on the GPU.",
        "network | method | precision | images | step (ms) | pixels (ms) | JPEGs (ms)",
    )
    packed = cache(partial(pack, folder, bench.size.drawn))
    for case, precision, key in product(bench.size.cases, PRECISIONS, ("l2_fe", "delta")):
        work = partial(iteration_row, bench, case, precision, key, packed)
        table.add_fitting([case.title, method_class(key).label, precision], work, case.batch)


def iteration_row(
    bench: Bench, case: Case, precision: str, key: str, packed: Callable[[int, int, int, Packing], Path], batch: int
) -> Rows:
    (network, source), method = bench.pair(case), method_of(key)
    recipe = recipe_of(method, precision, EPOCHS * bench.size.per_epoch, batch, case.crop)
    with deterministic():
        step = stepper(network, source, key, precision, *bench.batch(case, batch))
        bench.warm_up(step)
        times = [bench.mean_seconds(step)]
        for packing in PACKINGS:
            ends: list[tuple[int, float]] = []

            def log(step: Step, ends: list[tuple[int, float]] = ends) -> None:
                if step.ends_epoch:
                    ends.append((step.iteration, time.perf_counter()))

            folder = packed(case.resize, case.crop, case.batch * bench.size.per_epoch, packing)
            fine_tune(network, source, DefaultViewData.open(folder), recipe, attention_of(network, method), log)
            # The first epoch warms up, and after the last one the weights are checked.
            (first, started), *_, (last, ended), _ = ends
            times.append((ended - started) / (last - first))
    return [[f"{1e3 * taken:.1f}" for taken in times]]


def pack(folder: Path, per_class: int, resize: int, crop: int, images: int, packing: Packing) -> Path:
    """Pack so many training images; fewer are drawn, so some appear more than once."""
    if not (folder / "drawn").exists():
        draw(folder / "drawn", per_class, seed=0)
    root, out = folder / "drawn/256_ObjectCategories", folder / f"{resize}-{crop}-{images}-{packing}"
    table = pd.DataFrame({"path": [str(file.relative_to(root)) for file in sorted(root.glob("*/*.jpg"))]})
    table["label"] = table["path"].str.partition("/")[0]
    index = assign_splits(table, per_class - 1, 1, seed=0)
    train, test = (index[index["split"] == split] for split in ("train", "test"))
    rows = list(islice(cycle(range(len(train))), images))
    out.mkdir(exist_ok=True)
    write_packed(root, pd.concat([train.iloc[rows], test], ignore_index=True), resize, crop, out, packing)
    return out


def fold(bench: Bench) -> None:
    table = Table(
        bench,
        0.8,
        "Folding batch norms",
        "The largest difference that folding makes to the logits, relative to the largest logit, and whether "
        "`fold_batch_norms` accepts it.",
        "network | images | float32 | kept | TF32 | kept",
    )
    for case in bench.size.cases:
        table.add_fitting([case.title], partial(fold_row, bench, case), max(SMALLEST, case.batch // 2))


def fold_row(bench: Bench, case: Case, images: int) -> Rows:
    (network, _), (x, _), cells = bench.pair(case), bench.batch(case, images), []
    with torch.no_grad():
        with full_float32():
            folded = fold_batch_norms(network, x)
        for precision in FLOAT32:
            with precision():
                kept = fold_batch_norms(network, x) is not network
                cells += [difference(folded(x), network(x)), "yes" if kept else "no"]
    return [cells]


def time_attention(bench: Bench) -> None:
    table = Table(
        bench,
        1.0,
        "Exact attention",
        f"Milliseconds per image for all filters of a layer, extrapolated from {bench.size.filters[1]} of them, with "
        "batch norms folded and not.",
        "network | images | layer | filters | folded, float32 | folded, TF32 | not folded, float32 | "
        "not folded, TF32 | peak memory (GB)",
    )
    for case in bench.size.cases:
        table.add_fitting([case.title], partial(attention_rows, bench, case), max(SMALLEST, case.batch // 2))


def attention_rows(bench: Bench, case: Case, images: int) -> Rows:
    (network, _), (x, y), rows, totals = bench.pair(case), bench.batch(case, images), [], np.zeros(4)
    with torch.no_grad(), deterministic():
        inputs, _ = step_inputs(network, x)
        with full_float32():
            folded = fold_batch_norms(network, x)
        for layer in network.spec.feature_layers:
            bench.reset_peak()
            taken = []
            for rest, precision in product((folded, network), FLOAT32):
                removal = FilterRemoval(network, rest, layer, inputs)
                count = removal.filters if removal.is_free else min(removal.filters, bench.size.filters[1])
                filters = torch.linspace(0, removal.filters - 1, count, device=x.device).long()
                work = partial(removal.losses, inputs[removal.start], y, filters)
                with precision():
                    bench.warm_up(work, at_most=1)
                    taken.append(1e3 * bench.seconds(work) / images * removal.filters / count)
            totals += taken
            rows.append([layer, f"{removal.filters:,}", *(f"{each:.1f}" for each in taken), bench.peak()])
    return [*rows, ["all", "", *(f"{each:.1f}" for each in totals), ""]]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--network", choices=[case.network for case in FULL.cases], action="append")
    parser.add_argument("--tiny", action="store_true")
    given = sys.argv[1:] if arguments is None else list(arguments)
    chosen = parser.parse_args(given)
    with exit_on_user_error():
        device, size = pick_device(chosen.device), TINY if chosen.tiny else FULL
        if device.type == "cpu" and not chosen.tiny:
            raise UserError("there is no GPU: --tiny runs everything with the smallest images on the CPU")
        if chosen.network:
            size = size._replace(cases=tuple(case for case in size.cases if case.network in chosen.network))
        bench = Bench(size, device, chosen.minutes)
        card(bench, " ".join(["python -m benchmarks.gpu", *given]))
        compare_with_cpu(bench)
        measure_steps(bench)
        price_determinism(bench)
        with TemporaryDirectory() as folder:
            measure_iterations(bench, Path(folder))
        fold(bench)
        time_attention(bench)
        bench.say("done")


if __name__ == "__main__":
    gc.freeze()  # imported objects never die: exclude them from garbage collection
    main()
