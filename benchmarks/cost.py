"""The cost of a profile: counted FLOPs, and GPU-hours and disk space estimated from them.

    python -m benchmarks.cost profiles/paper.yaml > benchmarks/cost.md      (half a minute)

    --batch 16         also measure an iteration of so many images for each method (10 minutes more on 2 cores)

FLOPs are PyTorch's count for convolutions and matrix products, where a multiply-add is two. An iteration is measured at
the profile's crop with random weights, in a separate process; the faster of two after a warm-up.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import NamedTuple, cast

import timm
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from delta.attention.removal import FilterRemoval, fold_batch_norms, step_inputs
from delta.datasets import drawn, is_split_by_publisher
from delta.io.errors import UserError, exit_on_user_error
from delta.methods.base import Method
from delta.methods.registry import method_class
from delta.networks.devices import deterministic, device_name, pick_device
from delta.networks.network import Network
from delta.networks.spec import BackboneSpec
from delta.sources.catalogue import SourceNetwork
from delta.sources.weights import describe, published_network
from delta.training.loop import iterations_per_epoch, objective
from stages.common.params import Params, load_params
from stages.common.sections import Dataset

HEAD = 100  # outputs of the networks whose operations are counted


# TFLOP/s that an A100 sustains. These are assumptions, not measurements: `python -m benchmarks.gpu` measures a card.
# NVIDIA trains ResNet-50 (24.5 GFLOP per image) on one with 938 images a second in TF32 and 2,470 in mixed precision,
# which is 23 and 61 TFLOP/s, and on a V100 with 367 in float32, 57 % of its peak (README.md of DeepLearningExamples,
# PyTorch/Classification/ConvNets/resnet50v1.5). We assume less in bf16, as batches have 64 images instead of 256,
# algorithms are deterministic, and operations are not fused.
SUSTAINED = {"fp32": 20, "bf16": 35}  # training, by precision; in fp32, convolutions use TF32
# On disk; JPEGs as benchmarks/scaling.md measures them.
BYTES_PER_PIXEL = {"raw": 3.0, "jpeg": 0.46}
SUSTAINED_TESTS = SUSTAINED["fp32"]  # in either precision
SUSTAINED_ATTENTION = 11  # float32 without TF32, in either precision: 57 % of 19.5 TFLOP/s


class Work(NamedTuple):
    """FLOPs of training, of tests and of attention, which a GPU does at different rates."""

    training: float = 0
    tests: float = 0
    attention: float = 0

    @classmethod
    def total(cls, works: Iterable[Work]) -> Work:
        return cls(*map(sum, zip(*works, strict=True)))

    def hours(self, precision: str) -> float:
        """GPU-hours at the assumed rates."""
        rates = (SUSTAINED[precision], SUSTAINED_TESTS, SUSTAINED_ATTENTION)
        return sum(flops / rate for flops, rate in zip(self, rates, strict=True)) / 1e12 / 3600


class Run(NamedTuple):
    """A training run; `setting` as in `stages.train`."""

    dataset: str
    backbone: str
    method: str
    seed: int
    setting: str


def training_runs(params: Params) -> dict[str, list[Run]]:
    """The runs of each experiment that trains."""
    improved, curves = params.improved_view, params.learning_curves
    everything = (params.datasets, params.backbones, ["l2_fe", *params.methods], params.seeds, ["default"])
    return {
        "Table 1": [Run(*each) for each in product(*everything)],
        "Table 2": [
            Run(*each)
            for each in product(improved.datasets, improved.backbones, improved.methods, improved.seeds, ["improved"])
        ],
        "Figure 3, ExponentialLR": [
            Run(*each)
            for each in product(curves.datasets, curves.backbones, curves.methods, curves.seeds, ["exponential"])
        ],
    }


def attention_estimates(params: Params) -> list[tuple[str, str, int]]:
    """The data sets, backbones and seeds whose filter importance is estimated."""
    seeds = params.seeds if params.attention.seed == "own" else [params.attention.seed]
    return list(product(params.datasets, params.backbones, seeds))


def grid_folds(params: Params) -> list[tuple[str, str, str, int]]:
    """The data sets, backbones, methods and folds of the grid search."""
    return list(product(params.grid.datasets, params.grid.backbones, params.grid.methods, params.grid.folds))


def fold_runs(params: Params, method: str) -> int:
    """The training runs of a method's fold: one per cell, and L2-FE where attention is learned from it."""
    return len(params.grid.alpha) * len(params.grid.beta) + method_class(method).uses_attention


def tests(params: Params, run: Run, train_images: int) -> int:
    """How often a run is tested: after every epoch if Figure 3 shows it, else at its end alone."""
    curves = params.learning_curves
    shown = (run.dataset, run.backbone, run.method) in product(curves.datasets, curves.backbones, curves.methods)
    if run.setting == "exponential" or (run.setting == "default" and shown and run.seed in curves.seeds):
        return -(-params.training.iterations // iterations_per_epoch(train_images, params.training.batch_size))
    return 1


def spec_of(source: SourceNetwork) -> BackboneSpec:
    """The network's description, without its weights."""
    published = published_network(source.network)
    backbone = timm.create_model(published.architecture, num_classes=0).eval()
    return describe(backbone, published, source, published.name)


def random_pair(spec: BackboneSpec, method: Method) -> tuple[Network, Network]:
    """A network to train by a method and its source network, with random weights."""
    network, source = (Network(spec, HEAD) for _ in range(2))
    network.train()
    network.backbone.train(not method.frozen_backbone).requires_grad_(not method.frozen_backbone)
    source.eval().requires_grad_(False)
    return network, source


@cache
def network_bytes(architecture: str) -> int:
    """The size of a network's state."""
    with FakeTensorMode():
        backbone = timm.create_model(architecture, num_classes=0)
    return sum(tensor.nbytes for tensor in backbone.state_dict().values())


def batch_of(size: int, crop: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randn(size, 3, crop, crop, device=device).to(memory_format=torch.channels_last)
    return images, torch.zeros(size, dtype=torch.int64, device=device)


def ones(network: Network) -> dict[str, torch.Tensor]:
    device = next(network.parameters()).device
    find = network.backbone.get_submodule
    return {
        layer: torch.ones(sum(cast(nn.Conv2d, find(name)).out_channels for name in convolutions), device=device)
        for layer, convolutions in network.spec.feature_layers.items()
    }


def iteration_flops(spec: BackboneSpec, crop: int, key: str) -> float:
    """FLOPs per image of a training iteration: the forward and backward passes of both networks."""
    method = method_class(key)()
    with FakeTensorMode():  # nothing is computed
        network, source = random_pair(spec, method)
        with FlopCounterMode(display=False) as counter:
            images, targets = batch_of(2, crop, torch.device("cpu"))
            objective(network, source, images, targets, method, ones(network)).loss.backward()
    return counter.get_total_flops() / 2


def attention_flops(spec: BackboneSpec, crop: int) -> float:
    """FLOPs per image of the exact importance of all filters, extrapolated from one and two filters per layer."""
    network, total = Network(spec, HEAD).eval(), 0.0
    x, y = batch_of(1, crop, torch.device("cpu"))
    with torch.no_grad():
        inputs, _ = step_inputs(network, x)
        rest = fold_batch_norms(network, x)
        for layer in spec.feature_layers:
            removal = FilterRemoval(network, rest, layer, inputs)
            one, two = (_flops(removal, inputs, y, torch.arange(count)) for count in (1, 2))
            total += one + (removal.filters - 1) * (two - one)
    return total


def _flops(removal: FilterRemoval, inputs: dict[int, torch.Tensor], y: torch.Tensor, filters: torch.Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        removal.losses(inputs[removal.start], y, filters)
    return counter.get_total_flops()


def _measure(spec: BackboneSpec, crop: int, size: int, key: str, precision: str, results) -> None:
    device, method = pick_device("auto"), method_class(key)()
    pair = random_pair(spec, method)
    network, source = (each.to(memory_format=torch.channels_last).to(device) for each in pair)
    images, targets = batch_of(size, crop, device)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 1e-4, 0.9)
    seconds, weights = [], ones(network)
    with deterministic():
        for _ in range(3):
            started = time.perf_counter()
            loss = objective(network, source, images, targets, method, weights, precision).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            seconds.append(time.perf_counter() - started)
    on_gpu = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() if on_gpu else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results.put((min(seconds[1:]), peak))


def measured(*arguments) -> tuple[float, int]:
    """Seconds of one iteration, and the peak memory (bytes) of its process, or of the GPU."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_measure, args=(*arguments, results))
    process.start()
    answer = results.get(timeout=1800)
    process.join()
    return answer


def image_counts(name: str, dataset: Dataset) -> tuple[int, int]:
    """Training and test images of a data set.

    Raises:
        UserError: they are not known before its images are there.
    """
    if dataset.format == "drawn":
        classes = len(drawn.CATEGORIES)
    elif dataset.format == "folder" or str in map(type, (dataset.train_per_class, dataset.test_per_class)):
        raise UserError(f"datasets.{name}: how many images it has is only known when they are there")
    else:
        published = import_module(f"delta.datasets.{dataset.format}").PUBLISHED
        if is_split_by_publisher(dataset.format):
            return published.train, published.test
        classes = published.classes
    if dataset.classes:
        classes = len(dataset.classes)
    train, test, _ = dataset.split_by_seed()
    return classes * cast(int, train), classes * cast(int, test)


class Costs:
    """FLOPs of a profile's stages."""

    def __init__(self, params: Params):
        self.params = params
        self.counts = {name: image_counts(name, dataset) for name, dataset in params.datasets.items()}
        # Several data sets share a network, whose operations are counted once.
        self._spec = cache(lambda source: spec_of(SourceNetwork.model_validate_json(source)))
        self._iteration = cache(lambda source, crop, method: iteration_flops(self._spec(source), crop, method))
        self._exact = cache(lambda source, crop: attention_flops(self._spec(source), crop))

    def network(self, dataset: str, backbone: str) -> tuple[str, int]:
        """The source network of a backbone on a data set, as JSON, and its crop in pixels."""
        config = self.params.backbones[backbone]
        source = self.params.datasets[dataset].networks.get(backbone, config)
        return source.model_dump_json(include=set(SourceNetwork.model_fields)), config.crop

    def spec(self, dataset: str, backbone: str) -> BackboneSpec:
        return self._spec(self.network(dataset, backbone)[0])

    def iteration(self, dataset: str, backbone: str, method: str) -> float:
        """FLOPs per image of a training iteration; L2-FE's are those of a forward pass."""
        return self._iteration(*self.network(dataset, backbone), method)

    def _importance(self, dataset: str, backbone: str, estimator: str) -> float:
        """FLOPs per image of the importance of all filters."""
        if estimator == "exact":
            return self._exact(*self.network(dataset, backbone))
        return 7 * self.iteration(dataset, backbone, "l2_fe")  # one forward pass and three backward passes

    def training(self, run: Run) -> Work:
        """A run with its tests; a test image has ten crops in the improved view."""
        train, test = self.counts[run.dataset]
        images = self.params.training.iterations * self.params.training.batch_size
        crops = tests(self.params, run, train) * test * (10 if run.setting == "improved" else 1)
        step, forward = (self.iteration(run.dataset, run.backbone, method) for method in (run.method, "l2_fe"))
        return Work(step * images, forward * crops)

    def attention(self, dataset: str, backbone: str) -> Work:
        """One estimate of filter importance on all training images."""
        per_image = self._importance(dataset, backbone, self.params.attention.estimator)
        return Work(attention=per_image * self.counts[dataset][0])

    def fold(self, dataset: str, backbone: str, method: str) -> Work:
        """One fold of the grid search: a run and a test for each cell, and what the method's attention takes."""
        grid, (train, _) = self.params.grid, self.counts[dataset]
        images, held_out = grid.iterations * self.params.training.batch_size, train / len(grid.folds)
        cells, forward = len(grid.alpha) * len(grid.beta), self.iteration(dataset, backbone, "l2_fe")
        training, importance = cells * self.iteration(dataset, backbone, method) * images, 0.0
        if method_class(method).uses_attention:
            training += forward * images
            importance = (train - held_out) * self._importance(dataset, backbone, grid.estimator)
        return Work(training, cells * forward * held_out, importance)


def experiments(costs: Costs) -> dict[str, tuple[int, Work]]:
    """The number of runs, or of estimates of attention, and the FLOPs of each experiment."""
    params = costs.params
    found = {
        name: (len(runs), Work.total(costs.training(run) for run in runs))
        for name, runs in training_runs(params).items()
        if runs
    }
    estimates, folds = attention_estimates(params), grid_folds(params)
    found["Attention"] = len(estimates), Work.total(costs.attention(d, b) for d, b, _ in estimates)
    if folds:
        number = sum(fold_runs(params, method) for _, _, method, _ in folds)
        found["Figure 4, grid search"] = number, Work.total(costs.fold(d, b, m) for d, b, m, _ in folds)
    return found


def estimate(costs: Costs) -> None:
    """Print runs, FLOPs and GPU-hours by experiment, and the disk space of results and packed images."""
    params, counts = costs.params, costs.counts
    rows = experiments(costs)
    rows["All"] = sum(number for number, _ in rows.values()), Work.total(work for _, work in rows.values())
    print(f"\n| | runs | PFLOP | {' | '.join(f'GPU-hours, {precision}' for precision in SUSTAINED)} |")
    print(f"| --- | ---: | ---: |{' ---: |' * len(SUSTAINED)}")
    for name, (number, work) in rows.items():
        hours = " | ".join(f"{work.hours(precision):,.0f}" for precision in SUSTAINED)
        print(f"| {name} | {number:,} | {sum(work) / 1e15:,.0f} | {hours} |")
    training = " and ".join(f"{rate} TFLOP/s in {precision}" for precision, rate in SUSTAINED.items())
    print(
        "\nThe hours are FLOPs divided by rates that an A100 sustains. These are assumed, not measured "
        f"(`python -m benchmarks.gpu` measures a card): training {training}, tests {SUSTAINED_TESTS} TFLOP/s and "
        f"attention {SUSTAINED_ATTENTION} TFLOP/s, as tests and attention are float32 in either precision, and "
        "attention does not use TF32."
    )

    pixel = BYTES_PER_PIXEL[params.packing]
    packed = sum(
        pixel * (counts[d][0] * view.resize**2 + sum(counts[d]) * view.crop**2)
        for d, view in product(params.datasets, params.backbones.values())
    )
    whole = sum(
        pixel * sum(counts[d]) * params.backbones[b].resize ** 2 * 4 / 3  # the longer edge a third longer
        for d, b in product(params.improved_view.datasets, params.improved_view.backbones)
    )
    trained = sum(
        network_bytes(costs.spec(run.dataset, run.backbone).architecture)
        for runs in training_runs(params).values()
        for run in runs
    )
    print(
        f"\nDisk: {packed / 1e9:.0f} GB of images packed for the default view, about {whole / 1e9:.0f} GB for the "
        f"improved one, {trained / 1e9:.0f} GB of trained networks, plus the archives and their contents. DVC's "
        "cache has another copy of everything but the archives, which takes no additional space on a file system with "
        "reflinks (or with `dvc config cache.type hardlink,symlink`)."
    )


def steps(costs: Costs) -> None:
    """Print what an iteration takes at the assumed rates, by network and method."""
    size = costs.params.training.batch_size
    print(f"\n## An iteration at these rates\n\nA batch of {size} images.\n")
    print(f"| | method | GFLOP per image | {' | '.join(f'seconds, {precision}' for precision in SUSTAINED)} |")
    print(f"| --- | --- | ---: |{' ---: |' * len(SUSTAINED)}")
    for pair, key in networks_and_methods(costs):
        flops = costs.iteration(*pair, key)
        cells = [title(costs, pair), method_class(key).label, f"{flops / 1e9:.1f}"]
        cells += [f"{size * flops / rate / 1e12:.2f}" for rate in SUSTAINED.values()]
        print(f"| {' | '.join(cells)} |", flush=True)


def measured_steps(costs: Costs, batch: int) -> None:
    """Print measured seconds and memory of an iteration, by network and method."""
    precision, device = costs.params.training.precision, pick_device("auto")
    where = f"{device_name(device)}, {torch.get_num_threads()} threads" if device.type == "cpu" else device_name(device)
    print(f"\n## An iteration, measured\n\nA batch of {batch} images in {precision} on {where}.\n")
    print("| | method | seconds | peak memory (GB) |\n| --- | --- | ---: | ---: |")
    for pair, key in networks_and_methods(costs):
        crop = costs.params.backbones[pair[1]].crop
        seconds, peak = measured(costs.spec(*pair), crop, batch, key, precision)
        print(f"| {title(costs, pair)} | {method_class(key).label} | {seconds:.1f} | {peak / 1e9:.1f} |", flush=True)


def networks_and_methods(costs: Costs) -> list[tuple[tuple[str, str], str]]:
    """A data set and backbone of each network, and each method."""
    params = costs.params
    networks = {costs.network(*pair): pair for pair in product(params.datasets, params.backbones)}
    return list(product(networks.values(), ["l2_fe", *params.methods]))


def title(costs: Costs, pair: tuple[str, str]) -> str:
    return f"{costs.spec(*pair).name}, {costs.params.backbones[pair[1]].crop} pixels"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile", type=Path)
    parser.add_argument("--batch", type=int, help="images in the measured iteration")
    arguments = parser.parse_args()
    with exit_on_user_error():
        costs = Costs(load_params(arguments.profile))
    options = f" --batch {arguments.batch}" if arguments.batch else ""
    print(f"# What {arguments.profile} costs\n\n`python -m benchmarks.cost {arguments.profile}{options}`")
    estimate(costs)
    steps(costs)
    if arguments.batch:
        measured_steps(costs, arguments.batch)


if __name__ == "__main__":
    main()
