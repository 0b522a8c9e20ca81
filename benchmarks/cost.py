"""The cost of a profile: counted FLOPs, GPU-hours and disk space estimated from them, and a measured iteration.

    python -m benchmarks.cost profiles/paper.yaml --batch 16 > benchmarks/cost.md      (about 10 minutes on 2 cores)

FLOPs are PyTorch's count for convolutions and matrix products, where a multiply-add is two. An iteration is measured at
the profile's crop with random weights, in a separate process; the faster of two after a warm-up.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import time
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import cast

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from delta.attention.removal import FilterRemoval, fold_batch_norms, step_inputs
from delta.datasets import is_split_by_publisher
from delta.methods.base import Method
from delta.methods.registry import method_class
from delta.networks.devices import deterministic, device_name, pick_device
from delta.networks.network import Network
from delta.networks.spec import BackboneSpec
from delta.sources.catalogue import SourceNetwork
from delta.sources.weights import describe, published_network
from delta.training.loop import objective
from stages.common.params import Params, load_params

SUSTAINED = {"fp32": 20, "bf16": 55}  # TFLOP/s that training a ResNet achieves on an A100, approximately
CALTECH_CLASSES = 256


def spec_of(source: SourceNetwork) -> BackboneSpec:
    """The network's description, without its weights."""
    published = published_network(source.network)
    backbone = timm.create_model(published.architecture, num_classes=0).eval()
    return describe(backbone, published, source, published.name)


def random_pair(spec: BackboneSpec, device: torch.device, method: Method) -> tuple[Network, Network]:
    network, source = (Network(spec, 100).to(memory_format=torch.channels_last).to(device) for _ in range(2))
    network.train()
    network.backbone.train(not method.frozen_backbone).requires_grad_(not method.frozen_backbone)
    source.eval().requires_grad_(False)
    return network, source


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
    network, source = random_pair(spec, torch.device("cpu"), method)
    with FlopCounterMode(display=False) as counter:
        objective(network, source, *batch_of(2, crop, torch.device("cpu")), method, ones(network)).loss.backward()
    return counter.get_total_flops() / 2


def attention_flops(spec: BackboneSpec, crop: int) -> float:
    """FLOPs per image of the exact importance of all filters, extrapolated from one and two filters per layer."""
    network, total = Network(spec, 100).eval(), 0.0
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
    network, source = random_pair(spec, device, method)
    images, targets = batch_of(size, crop, device)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 1e-4, 0.9)
    seconds = []
    with deterministic():
        for _ in range(3):
            started = time.perf_counter()
            loss = objective(network, source, images, targets, method, ones(network), precision).loss
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


def image_counts(params: Params) -> dict[str, tuple[int, int]]:
    """Training and test images of each data set."""
    counts = {}
    for name, dataset in params.datasets.items():
        if is_split_by_publisher(dataset.format):
            published = import_module(f"delta.datasets.{dataset.format}").PUBLISHED
            counts[name] = published.train, published.test
        else:
            classes = len(dataset.classes or range(CALTECH_CLASSES))
            train, test = cast(int, dataset.train_per_class), cast(int, dataset.test_per_class)
            counts[name] = classes * train, classes * test
    return counts


class Costs:
    """FLOPs of a profile's stages."""

    def __init__(self, params: Params, specs: dict[str, BackboneSpec]):
        self.params, self.counts = params, image_counts(params)
        crops = {name: view.crop for name, view in params.backbones.items()}
        keys = dict.fromkeys(["l2_fe", *params.methods, *params.grid.methods])
        self.iteration = {(b, key): iteration_flops(specs[b], crops[b], key) for b, key in product(specs, keys)}
        self._importance = {
            "exact": {b: attention_flops(spec, crops[b]) for b, spec in specs.items()},
            "fisher": {b: 7 * self.iteration[b, "l2_fe"] for b in specs},  # one forward pass and three backward passes
        }

    def training(self, dataset: str, backbone: str, key: str, seed: int, setting: str = "default") -> float:
        """FLOPs of a run with its tests: at the end, with ten crops in the improved view, and for the runs that
        Figure 3 shows after every epoch."""
        (train, test), images = self.counts[dataset], self.params.training.iterations * self.params.training.batch_size
        curves, run = self.params.learning_curves, (dataset, backbone, key, seed)
        shown = run in product(curves.datasets, curves.backbones, curves.methods, curves.seeds)
        tests = 10 if setting == "improved" else math.ceil(images / train) if shown else 1
        return self.iteration[backbone, key] * images + self.iteration[backbone, "l2_fe"] * tests * test

    def attention(self, dataset: str, backbone: str, seed: int) -> float:
        """FLOPs of a seed's filter importance; 0 if the seed shares another one's."""
        if self.params.attention.seed not in ("own", seed):
            return 0.0
        return self._importance[self.params.attention.estimator][backbone] * self.counts[dataset][0]

    def fold(self, dataset: str, backbone: str, key: str) -> float:
        """FLOPs of one fold of a method's grid search: a run per cell, and for attention L2-FE and filter importance
        on the fold's training part."""
        grid = self.params.grid
        cells, share = len(grid.alpha) * len(grid.beta), 1 - 1 / len(grid.folds)
        images = grid.iterations * self.params.training.batch_size
        flops = cells * self.iteration[backbone, key] * images
        if method_class(key).uses_attention:
            flops += self.iteration[backbone, "l2_fe"] * images
            flops += share * self.counts[dataset][0] * self._importance[grid.estimator][backbone]
        return flops


def estimate(costs: Costs, specs: dict[str, BackboneSpec]) -> None:
    """Print runs, FLOPs and GPU-hours by experiment, and the disk space of results and packed images."""
    params, counts = costs.params, costs.counts
    rows: dict[str, tuple[int, float]] = {}
    for name, methods, section, setting in (
        ("Table 1", ["l2_fe", *params.methods], params, "default"),
        ("Table 2", params.improved_view.methods, params.improved_view, "improved"),
        ("Figure 3, ExponentialLR", params.learning_curves.methods, params.learning_curves, "exponential"),
    ):
        runs = [*product(section.datasets, section.backbones, methods, section.seeds)]
        rows[name] = len(runs), sum(costs.training(*run, setting) for run in runs)
    estimates = [costs.attention(*of) for of in product(params.datasets, params.backbones, params.seeds)]
    rows["Attention"] = len([flops for flops in estimates if flops]), sum(estimates)
    grid = params.grid
    if grid.datasets:
        folds = [*product(grid.datasets, grid.backbones, grid.methods, grid.folds)]
        cells, l2_fe = len(grid.alpha) * len(grid.beta), sum(method_class(m).uses_attention for _, _, m, _ in folds)
        rows["Figure 4, grid search"] = len(folds) * cells + l2_fe, sum(costs.fold(d, b, m) for d, b, m, _ in folds)
    rows["All"] = cast(tuple[int, float], tuple(map(sum, zip(*rows.values(), strict=True))))
    print(f"\n| | runs | PFLOP | {' | '.join(f'GPU-hours, {p} at {t} TFLOP/s' for p, t in SUSTAINED.items())} |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, (number, total) in rows.items():
        hours = " | ".join(f"{total / rate / 1e12 / 3600:,.0f}" for rate in SUSTAINED.values())
        print(f"| {name} | {number:,} | {total / 1e15:,.0f} | {hours} |")

    packed = sum(
        3 * (counts[d][0] * view.resize**2 + sum(counts[d]) * view.crop**2)
        for d, view in product(params.datasets, params.backbones.values())
    )
    whole = sum(
        4 * sum(counts[d]) * params.backbones[b].resize ** 2  # 3 bytes per pixel, the longer edge a third longer
        for d, b in product(params.improved_view.datasets, params.improved_view.backbones)
    )
    trained = rows["All"][0] - rows["Attention"][0] - rows.get("Figure 4, grid search", (0,))[0]
    size = sum(4 * sum(p.numel() for p in Network(s, 100).parameters()) for s in specs.values()) / len(specs)
    print(
        f"\nDisk: {packed / 1e9:.0f} GB of images packed for the default view, about {whole / 1e9:.0f} GB for the "
        f"improved one, {trained * size / 1e9:.0f} GB of trained networks, plus the archives and their contents. DVC's "
        "cache has another copy of everything but the archives, which takes no additional space on a file system with "
        "reflinks (or with `dvc config cache.type hardlink,symlink`)."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile", type=Path)
    parser.add_argument("--batch", type=int, required=True, help="batch size of the measured iteration")
    arguments = parser.parse_args()
    params = load_params(arguments.profile)
    keys = ["l2_fe", *params.methods]
    specs = {name: spec_of(view) for name, view in params.backbones.items()}
    crops = {name: view.crop for name, view in params.backbones.items()}
    costs = Costs(params, specs)
    size, precision = arguments.batch, params.training.precision
    print(f"# Cost of {arguments.profile}\n\n`python -m benchmarks.cost {arguments.profile} --batch {arguments.batch}`")
    estimate(costs, specs)
    device = pick_device("auto")
    where = f"{device_name(device)}, {torch.get_num_threads()} threads" if device.type == "cpu" else device_name(device)
    print(f"\nOne iteration: a batch of {size}, {precision}; measured on {where}.\n")
    print("| | method | GFLOP per image | seconds | peak memory (GB) |\n| --- | --- | ---: | ---: | ---: |")
    for b, key in product(specs, keys):
        name = f"{specs[b].name}, {crops[b]} pixels"
        seconds, peak = measured(specs[b], crops[b], size, key, precision)
        flops = costs.iteration[b, key]
        cells = (name, method_class(key).label, f"{flops / 1e9:.1f}", f"{seconds:.1f}", f"{peak / 1e9:.1f}")
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
