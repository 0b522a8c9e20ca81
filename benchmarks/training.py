"""Speed of fine-tuning compared with a plain PyTorch loop, the overhead of the penalties, and the cost of every method.

    OMP_NUM_THREADS=1 python -m benchmarks.training > benchmarks/training.md        (8 minutes on 2 cores)

The plain loop is written like the authors' release: images are decoded, resized and cropped one by one in a DataLoader,
hooks of a copied source network fill lists, there are two full forward passes, and loops over parameters and layers
compute the penalties. Its loss is that of the protocol. It and `delta.training.loop.fine_tune` run alternately in
separate processes, so that neither affects the other's settings; a ratio is the median over the turns.

The methods train alternately in one process, and each is compared with L2 in the same turn.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast

import pandas as pd
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.cost import ones, spec_of
from delta.data.packed.views import DefaultViewData, input_statistics, normalised, random_crops
from delta.data.packing import write_packed
from delta.data.split import assign_splits
from delta.datasets.drawn import draw
from delta.methods.base import Method
from delta.methods.registry import KEYS, PAPER, method_class
from delta.networks.devices import deterministic, device_name, keep_freed_memory, pick_device
from delta.networks.network import Network
from delta.networks.spec import BackboneSpec
from delta.sources.catalogue import SourceNetwork
from delta.training.config import Recipe, Training
from delta.training.loop import backward, begin, fine_tune, objective
from delta.training.state import TrainingState

CLASSES, IMAGES_PER_CLASS = 10, 8  # of the drawn data set, 200 to 300 pixels per side
ALPHA, BETA, WEIGHT_DECAY, LEARNING_RATE, MOMENTUM = 0.01, 0.01, 1e-4, 1e-7, 0.9
PENALISED = ("l2_sp", "l2_sp_att", "delta_wo_att", "delta")


class Case(NamedTuple):
    network: str
    crop: int
    batch: int
    turns: int

    @property
    def resize(self) -> int:
        return round(self.crop * 256 / 224)

    @property
    def title(self) -> str:
        return f"{self.network}, {self.crop} pixels, {self.batch} images"


CASES = (Case("efficientnet_lite0", 96, 32, 5), Case("resnet50", 128, 16, 3), Case("resnet101", 224, 4, 3))
SLICE = Case("efficientnet_lite0", 80, 16, 30)  # as params.yaml has it


def method_of(key: str) -> Method:
    return (
        method_class(key)(alpha=ALPHA, beta=BETA) if key in PENALISED else method_class(key)(weight_decay=WEIGHT_DECAY)
    )


@dataclass(frozen=True)
class Start:
    """The common initial state of both loops; the target differs slightly from the source, so that no penalty is 0."""

    case: Case
    folder: Path
    device: torch.device

    @cached_property
    def spec(self) -> BackboneSpec:
        return spec_of(SourceNetwork(network=self.case.network))

    @cached_property
    def source(self) -> dict[str, Tensor]:
        """The state of a random backbone, whose batch norms have the running statistics of a batch."""
        torch.manual_seed(0)
        backbone = timm.create_model(self.spec.architecture, num_classes=0)
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():
            backbone(self.batch()[0].cpu())
        return backbone.state_dict()

    @cached_property
    def target(self) -> dict[str, Tensor]:
        noise, shifted = torch.Generator().manual_seed(1), copy.deepcopy(self.source)
        for name, _ in timm.create_model(self.spec.architecture, num_classes=0).named_parameters():
            shifted[name] += 0.01 * shifted[name].abs().mean() * torch.randn(shifted[name].shape, generator=noise)
        return shifted

    @cached_property
    def data(self) -> DefaultViewData:
        return DefaultViewData.open(self.folder / self.case.title)

    def batch(self) -> tuple[Tensor, Tensor]:
        """The batch on which the losses are compared."""
        indices = torch.arange(self.case.batch)
        return self.crops(indices), self.data.targets("train")[indices].to(self.device)

    def crops(self, indices: Tensor) -> Tensor:
        images = self.data.training_images(indices)
        pixels = random_crops(images, self.case.crop, torch.Generator().manual_seed(0), self.device)
        return normalised(pixels, input_statistics(self.spec, self.device))

    def channel_weights(self, key: str) -> dict[str, Tensor]:
        uniform = ones(Network(self.spec, CLASSES))
        if not method_class(key).uses_attention:
            return {layer: each.to(self.device) for layer, each in uniform.items()}
        return {layer: torch.linspace(0.5, 1.5, len(each), device=self.device) for layer, each in uniform.items()}


class PlainLoop:
    """Fine-tuning like the authors' release, with the losses of the protocol."""

    def __init__(self, start: Start, key: str):
        self.key, self.start, self.layers = key, start, list(start.spec.feature_layers)
        model = timm.create_model(start.spec.architecture, num_classes=CLASSES)
        model.load_state_dict(start.source, strict=False)
        self.source = copy.deepcopy(model).to(start.device).eval()
        for parameter in self.source.parameters():
            parameter.requires_grad = False
        model.load_state_dict(start.target, strict=False)
        cast(Any, model).get_classifier().load_state_dict(Network(start.spec, CLASSES).head.state_dict())
        self.model = model.to(start.device).train()
        classifier = cast(dict[str, Any], model.pretrained_cfg)["classifier"]
        self.head = [f"{classifier}.{name}" for name in ("weight", "bias")]
        if key == "l2_fe":
            self.model.eval()
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad = name in self.head
        self.source_weights = {name: parameter.detach() for name, parameter in self.source.named_parameters()}
        self.channel_weights = start.channel_weights(key)
        self.maps: list[Tensor] = []
        self.source_maps: list[Tensor] = []
        for network, maps in ((self.model, self.maps), (self.source, self.source_maps)):
            for layer in self.layers:
                network.get_submodule(layer).register_forward_hook(
                    lambda _module, _inputs, output, maps=maps: maps.append(output)
                )
        case = start.case
        view = [
            transforms.Resize((case.resize, case.resize)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomCrop((case.crop, case.crop)),
            transforms.ToTensor(),
            transforms.Normalize(start.spec.mean, start.spec.std),
        ]
        images = ImageFolder(str(start.folder / "images"), transforms.Compose(view))
        self.loader = DataLoader(images, batch_size=case.batch, shuffle=True)

    def loss(self, images: Tensor, targets: Tensor) -> Tensor:
        loss = cross_entropy(self.model(images), targets)
        if self.key in PENALISED:
            loss = loss + BETA * self.private_penalty()
        if self.key.startswith("l2_sp"):
            loss = loss + ALPHA * self.parameter_distance()
        if self.key.startswith("delta"):
            loss = loss + ALPHA * self.map_distance(images)
        self.maps.clear()
        self.source_maps.clear()
        return loss

    def private_penalty(self) -> Tensor:
        penalty = torch.tensor(0.0, device=self.start.device)
        for name, parameter in self.model.named_parameters():
            if name in self.head:
                penalty += 0.5 * torch.norm(parameter) ** 2
        return penalty

    def parameter_distance(self) -> Tensor:
        penalty = torch.tensor(0.0, device=self.start.device)
        for name, parameter in self.model.named_parameters():
            if name in self.head:
                continue
            layer = name.removesuffix(".weight")
            if self.key == "l2_sp_att" and layer in self.layers:
                distance = torch.norm((parameter - self.source_weights[name]).flatten(1), 2, 1)
                penalty += 0.5 * torch.sum(self.channel_weights[layer] * distance**2)
            else:
                penalty += 0.5 * torch.norm(parameter - self.source_weights[name]) ** 2
        return penalty

    def map_distance(self, images: Tensor) -> Tensor:
        self.source(images)
        penalty = torch.tensor(0.0, device=self.start.device)
        for layer, ours, theirs in zip(self.layers, self.maps, self.source_maps, strict=True):
            b, c, h, w = ours.shape
            ours, theirs = (torch.reshape(torch.relu(maps), (b, c, h * w)) for maps in (ours, theirs.detach()))
            distance = torch.norm(ours - theirs, 2, 2)
            penalty += 0.5 * torch.sum(self.channel_weights[layer] * distance**2 / (h * w))
        return penalty

    def train(self, iterations: int) -> None:
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        decay = 0 if self.key in PENALISED else WEIGHT_DECAY
        optimizer = torch.optim.SGD(trained, lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=decay)
        running_loss = 0.0
        for images, targets in islice(self.loader, iterations):
            images, targets = images.to(self.start.device), targets.to(self.start.device)
            optimizer.zero_grad()
            loss = self.loss(images, targets)
            loss.backward()
            optimizer.step()
            running_loss += loss.item() * len(images)

    def prepare(self) -> None:
        """Prepare a batch of images, without training on it."""
        next(iter(self.loader))


class OurLoop:
    """`delta.training.loop.fine_tune`."""

    def __init__(self, start: Start, key: str):
        self.start, self.method, self.channel_weights = start, method_of(key), start.channel_weights(key)
        networks = (Network(start.spec, CLASSES) for _ in range(2))
        self.network, self.source = (n.to(memory_format=torch.channels_last).to(start.device) for n in networks)
        self.network.backbone.load_state_dict(start.target)
        self.source.backbone.load_state_dict(start.source)
        self.source.eval().requires_grad_(False)
        self.network.train()
        frozen = self.method.frozen_backbone
        self.network.backbone.train(not frozen).requires_grad_(not frozen)

    def loss(self, images: Tensor, targets: Tensor) -> Tensor:
        return objective(self.network, self.source, images, targets, self.method, self.channel_weights).loss

    def recipe(self, iterations: int) -> Recipe:
        case = self.start.case
        training = Training(
            iterations=iterations,
            batch_size=case.batch,
            momentum=MOMENTUM,
            decay_after=9000,
            decay_factor=0.1,
            clip_norm=None,
            class_weights=None,
            precision="fp32",
        )
        return Recipe(self.method, training, LEARNING_RATE, case.crop, seed=0)

    def train(self, iterations: int) -> None:
        with deterministic():
            fine_tune(self.network, self.source, self.start.data, self.recipe(iterations), self.channel_weights)

    def iteration(self) -> Callable[[], None]:
        """A function that trains for one iteration, as `fine_tune`, on the next crops of the same images."""
        start, method, recipe = self.start, self.method, self.recipe(1_000_000)
        rows, statistics = torch.arange(start.case.batch), input_statistics(start.spec, start.device)
        classifier = nn.Linear(self.network.head.in_features, 1000).to(start.device) if method.uses_classifier else None
        run = begin(self.network, self.source, classifier, start.data, recipe)
        state = TrainingState(self.network, recipe, recipe.training.iterations, run)
        targets = start.data.targets("train")[rows].to(start.device)

        def iterate() -> None:
            pixels = start.data.training_images(rows)
            crops = [random_crops(pixels, recipe.crop, state.crops, start.device) for _ in range(method.view_count)]
            images, *views = (normalised(crop, statistics) for crop in crops)
            terms = objective(
                self.network, self.source, images, targets, method, self.channel_weights, views=views, own=run.own
            )
            state.optimizer.zero_grad()
            backward(terms, self.network, recipe)
            method.step(run, state.iteration + 1)
            state.advance(terms)

        return iterate

    def prepare(self) -> None:
        self.start.crops(torch.randperm(len(self.start.data.rows("train")))[: self.start.case.batch])


# The following functions, up to `main`, run in the loops' processes.


@cache
def _start(case: Case, folder: Path) -> Start:
    return Start(case, folder, pick_device("auto"))


def seconds(work: Callable, *arguments, clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    work(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - started


_loop: PlainLoop | OurLoop  # this process's


def set_up(kind: type[PlainLoop | OurLoop], case: Case, folder: Path, key: str) -> float:
    """Set up this process's loop, return its loss on the common batch, and run an iteration as a warm-up."""
    global _loop
    _loop = kind(_start(case, folder), key)
    loss = _loop.loss(*_loop.start.batch()).item()
    _loop.train(1)
    return loss


def turn(what: str, *arguments) -> float:
    return seconds(getattr(_loop, what), *arguments)


def parts(case: Case, folder: Path) -> list[dict[str, float]]:
    """Seconds of steps (loss and gradients, without the update) and of their forward and backward passes, by turn."""
    start = _start(case, folder)
    if start.device.type == "cpu":
        keep_freed_memory()  # as `fine_tune` does
    (images, targets), loops = start.batch(), {key: OurLoop(start, key) for key in ("l2", "l2_sp", "delta")}
    network, source = loops["l2"].network, loops["l2"].source

    def step(loop: OurLoop) -> None:
        loop.network.zero_grad()
        loop.loss(images, targets).backward()

    def target_passes() -> None:
        network.zero_grad()
        cross_entropy(network(images), targets).backward()

    def source_pass() -> None:
        with torch.no_grad():
            source(images)

    works: dict[str, Callable[..., None]] = {key: lambda loop=loop: step(loop) for key, loop in loops.items()}
    works |= {"target": target_passes, "source": source_pass}
    with deterministic():
        turns = [{name: seconds(work) for name, work in works.items()} for _ in range(1 + 2 * case.turns)]
    return turns[1:]


def costs(case: Case, folder: Path) -> pd.DataFrame:
    """Seconds of an iteration by turn (row) and method (column)."""
    start, keys = _start(case, folder), [key for key in KEYS if key != "probe" and method_class(key).trains]
    # Other programs on the machine do not count into a CPU's time, but share its caches.
    clock = time.process_time if start.device.type == "cpu" else time.perf_counter
    with deterministic():
        iterations = {key: OurLoop(start, key).iteration() for key in keys}
        turns = []
        for number in range(1 + case.turns):
            first = number % len(keys)
            order = keys[first:] + keys[:first]  # none always has the caches as the same other one leaves them
            turns.append({key: seconds(iterations[key], clock=clock) for key in order})
    return pd.DataFrame(turns[1:])


def side() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, get_context("spawn"))


def compared(case: Case, folder: Path) -> None:
    """Print a network's rows of the first table."""
    with side() as plain, side() as ours:
        for key in PAPER:
            sides: dict[ProcessPoolExecutor, type[PlainLoop | OurLoop]] = {plain: PlainLoop, ours: OurLoop}
            losses = [each.submit(set_up, kind, case, folder, key).result() for each, kind in sides.items()]
            difference = abs(losses[1] / losses[0] - 1)
            rows = [(method_class(key).label, "train", 1)] + [("images alone", "prepare")] * (key == "l2")
            for label, *work in rows:
                turns = [[each.submit(turn, *work).result() for each in sides] for _ in range(case.turns)]
                rates = [case.batch / median(taken) for taken in zip(*turns, strict=True)]
                ratio = median(slow / fast for slow, fast in turns)
                loss = f"{difference:.0e}" if work[0] == "train" else ""
                print(
                    f"| {case.title} | {label} | {rates[0]:.1f} | {rates[1]:.1f} | {ratio:.2f} | {loss} |", flush=True
                )


def made_of(case: Case, folder: Path) -> str:
    with side() as ours:
        turns = ours.submit(parts, case, folder).result()
    delta = median(turn["delta"] / (turn["target"] + turn["source"]) for turn in turns)
    l2_sp = median(turn["l2_sp"] / turn["l2"] for turn in turns)
    return f"| {case.title} | {delta:.3f} | {l2_sp:.3f} |"


def relative(case: Case, folder: Path) -> None:
    """Print the table of every method's cost."""
    with side() as ours:
        taken = ours.submit(costs, case, folder).result()
    ratios = taken.div(taken["l2"], axis="index").quantile([0.25, 0.5, 0.75])
    for key in ratios.loc[0.5].sort_values().index:
        low, middle, high = ratios[key]
        print(
            f"| {method_class(key).label} | `{key}` | {1e3 * taken[key].median():.0f} | {middle:.2f} | "
            f"{low:.2f} to {high:.2f} |"
        )


def drawn(folder: Path) -> None:
    """Write the images as files for the plain loop, and packed for ours."""
    draw(folder / "drawn", IMAGES_PER_CLASS, seed=0)
    (folder / "images").symlink_to(folder / "drawn" / "256_ObjectCategories")
    files = sorted((folder / "images").glob("*/*.jpg"))
    table = pd.DataFrame({"path": [str(f.relative_to(folder / "images")) for f in files]})
    table["label"] = table["path"].str.partition("/")[0]
    index = assign_splits(table, IMAGES_PER_CLASS - 1, 1, seed=0)
    for case in (*CASES, SLICE):
        (folder / case.title).mkdir()
        write_packed(folder / "images", index, case.resize, case.crop, folder / case.title)


def main() -> None:
    device = pick_device("auto")
    command = f"OMP_NUM_THREADS={torch.get_num_threads()} python -m benchmarks.training"
    print("# The training step\n")
    print(f"`{command}`, on {device_name(device)}, {os.cpu_count()} cores, PyTorch {torch.__version__}.\n")
    with TemporaryDirectory() as name:
        folder = Path(name)
        drawn(folder)
        print(
            "## Against a plain loop\n\nImages per second of whole iterations: images, loss, gradient, update. Random "
            "weights, the protocol's losses. The plain loop prepares its images in its own process, as ours does: "
            "the row of the images alone says what workers on other cores could take off it. The last column is the "
            "relative difference of the two losses on one batch.\n"
        )
        print("| | | plain loop | `fine_tune` | ratio | loss |\n| --- | --- | ---: | ---: | ---: | ---: |")
        for case in CASES:
            compared(case, folder)
        print(
            "\n## What a step is made of\n\nLoss and gradient of a batch, without the update: DELTA's time over that "
            "of the target's forward and backward and the source's forward pass, L2-SP's over L2's. Small batches "
            "make this hard for L2-SP: its penalty costs the same for a batch of any size.\n"
        )
        print("| | DELTA : its passes | L2-SP : L2 |\n| --- | ---: | ---: |")
        for case in CASES:
            print(made_of(case, folder), flush=True)
        print(
            f"\n## What each method costs\n\n{SLICE.title}, as in the slice: {SLICE.turns} turns of one whole "
            "iteration of each method, images, loss, gradient and update. The ratio to L2 in the same turn, its median "
            "and quartiles. On a CPU the time is that of the process, not of the clock. What a method computes before "
            "the first iteration is not in it, such as Co-Tuning's pass over the training images. WiSE-FT trains "
            "nothing.\n"
        )
        print("| | | ms | : L2 | quartiles |\n| --- | --- | ---: | ---: | ---: |")
        relative(SLICE, folder)


if __name__ == "__main__":
    main()
