"""Speed and quality of filter importance: brute force, the estimator `exact` and the estimator `fisher`.

    OMP_NUM_THREADS=2 python -m benchmarks.attention > benchmarks/attention.md

Brute force sets one filter's weights to zero and runs a full forward pass of all images, for each filter. Speed is
measured on a few filters of each layer, alternating between the implementations; quality on the embedded slice's L2-FE
network, and on further runs given by `--run` and `--packed`. The slice must have been reproduced.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import timm
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from delta.attention.fisher import estimate_loss_increases
from delta.attention.importance import filter_importance
from delta.attention.normalization import attention
from delta.attention.removal import FilterRemoval, fold_batch_norms, step_inputs
from delta.data.packed.views import DefaultViewData
from delta.methods.registry import method_class
from delta.networks.devices import deterministic, device_name, full_float32, keep_freed_memory, pick_device
from delta.networks.network import Network, trained_network
from delta.sources.catalogue import SourceNetwork
from delta.sources.weights import describe, published_network
from delta.training.config import Recipe, Training
from delta.training.loop import fine_tune

SPEED = (("efficientnet_lite0", 80, 32, 4), ("resnet50", 128, 4, 32), ("resnet101", 224, 1, 48))
ROUNDS = 2
FEW = 20
SLICE = (
    Path("runs/drawn_30/efficientnet_lite0/l2_fe/0"),
    Path("data/packed/drawn_30/efficientnet_lite0"),
)


def random_network(name: str, crop: int, device: torch.device) -> Network:
    """An architecture with random weights, whose batch norms have the running statistics of a random batch."""
    published = published_network(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = timm.create_model(published.architecture, num_classes=0).eval()
        spec = describe(backbone, published, SourceNetwork(network=name), name)
        network = Network(spec, 10)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)  # timm sets a block's last one to 0
                module.momentum = 1.0  # take the statistics of the batch below
        with torch.no_grad():
            network.train()(torch.randn(8, 3, crop, crop))
    return network.eval().to(memory_format=torch.channels_last).to(device)


def timed(work: Callable[[], object]) -> tuple[float, object]:
    started = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, result


def brute(network: Network, layer: str, filters: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The summed loss without each of some filters, by a full forward pass for each."""
    convolution, found = cast(nn.Conv2d, network.backbone.get_submodule(layer)), []
    for j in filters:
        kept = convolution.weight.data[j].clone()
        convolution.weight.data[j] = 0
        found.append(cross_entropy(network(x).double(), y, reduction="sum"))
        convolution.weight.data[j] = kept
    return torch.stack(found)


def difference(network: Network, x: Tensor, y: Tensor) -> float:
    """The maximum error of the loss increase of four filters per layer, relative to the layer's largest increase."""
    shares = []
    with torch.no_grad():
        inputs, logits = step_inputs(network, x)
        rest, base = fold_batch_norms(network, x), cross_entropy(logits, y, reduction="sum")
        for layer in network.spec.feature_layers:
            removal = FilterRemoval(network, rest, layer, inputs)
            filters = torch.linspace(0, removal.filters - 1, 4, device=x.device).long()
            meant = brute(network, layer, filters, x, y) - base
            found = removal.losses(inputs[removal.start], y, filters) - base
            shares.append(((found - meant).abs().max() / meant.abs().max()).item())
    return max(shares)


def speed(name: str, crop: int, images: int, every: int, device: torch.device, note: str = "") -> str:
    """A row of the table of speeds.

    Args:
        every: measure every n-th filter.
        note: appended to the row's name.
    """
    network = random_network(name, crop, device)
    x = torch.randn(images, 3, crop, crop, device=device).to(memory_format=torch.channels_last)
    y = torch.arange(images, device=device) % 10
    slow, fast, fisher, count = 0.0, 0.0, [], 0
    with torch.no_grad():
        started = time.perf_counter()
        inputs, _ = step_inputs(network, x)
        rest = fold_batch_norms(network, x)
        removals = [FilterRemoval(network, rest, layer, inputs) for layer in network.spec.feature_layers]
        once = time.perf_counter() - started
        network(x)
        for removal in removals:
            filters = torch.arange(0, removal.filters, every, device=device)

            def by_brute_force(r: FilterRemoval = removal, f: Tensor = filters) -> Tensor:
                return brute(network, r.layer, f, x, y)

            def by_removal(r: FilterRemoval = removal, f: Tensor = filters) -> Tensor:
                return r.losses(inputs[r.start], y, f)

            rounds = [(timed(by_brute_force), timed(by_removal)) for _ in range(ROUNDS)]
            (there, _), (here, _) = (min((each[side] for each in rounds), key=lambda one: one[0]) for side in (0, 1))
            share = removal.filters / len(filters)
            slow, fast, count = slow + share * there, fast + share * here, count + removal.filters
    for _ in range(ROUNDS):
        fisher.append(timed(lambda: estimate_loss_increases(network, x, y))[0])
    cells = [
        f"{network.spec.name}, {crop} px, {images} images{note}",
        f"{count:,}",
        f"{slow:.1f}",
        f"{fast:.1f}",
        f"**{slow / fast:.1f}**",
        f"{once:.1f}",
        f"{difference(network.double(), x.double(), y):.0e}",
        f"{min(fisher):.2f}",
        f"{100 * min(fisher) / slow:.2f} %",
    ]
    return f"| {' | '.join(cells)} |"


def with_trained_head(data: DefaultViewData, crop: int, device: torch.device) -> Network:
    """A ResNet-50 with random weights, so that nothing is downloaded, and a classifier trained on top."""
    network, source = (random_network("resnet50", crop, device) for _ in range(2))
    options = {"momentum": 0.9, "decay_after": 100, "decay_factor": 0.1, "clip_norm": None, "class_weights": None}
    training = Training(iterations=60, batch_size=16, precision="fp32", **options)
    method = method_class("l2_fe")(weight_decay=1e-4)
    fine_tune(network, source, data, Recipe(method, training, 0.01, crop, seed=0), {})
    return network


def quality(name: str, network: Network, data: DefaultViewData) -> list[str]:
    """One row per layer: how close the estimate is to the exact importance."""
    exact, estimate = (filter_importance(network, data, estimator, progress=True) for estimator in ("exact", "fisher"))
    rows = []
    for layer, scores in exact.items():
        true, found = scores.numpy(), estimate[layer].numpy()
        distance = np.abs(attention(true, "standardized") - attention(found, "standardized")).sum() / 2
        cells = [
            name,
            layer,
            f"{np.corrcoef(true, found)[0, 1]:.3f}",
            f"{spearmanr(true, found)[0]:.3f}",
            f"{distance:.4f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, action="append", default=[], help="the folder of an L2-FE run")
    parser.add_argument("--packed", type=Path, action="append", default=[], help="the packed data set of that run")
    arguments = parser.parse_args()
    device = pick_device("auto")
    threads = torch.get_num_threads()
    print("# Filter importance\n")
    command = f"OMP_NUM_THREADS={threads} python -m benchmarks.attention"
    print(f"`{command}`, on {device_name(device)}, {os.cpu_count()} cores, PyTorch {torch.__version__}.\n")
    print(
        "## Speed\n\nSeconds for all filters; the better of two rounds, brute force and ours alternating. Random "
        "weights. `exact` first determines what filters can share, once for all batches of a data set; these seconds "
        "are listed separately. The largest difference is the error of the increase of the loss in float64, relative "
        "to the layer's largest increase. In the last row, the process keeps freed memory as in training, from which "
        "brute force benefits and `exact` does not.\n"
    )
    print(
        "| | filters | brute force | `exact` | times as fast | once | largest difference | `fisher` | of brute force |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with deterministic(), full_float32():
        for row in SPEED:
            print(speed(*row, device), flush=True)
        keep_freed_memory()
        print(speed(*SPEED[0], device, ", freed memory kept"), flush=True)
        print(
            "\n## `fisher` against `exact`\n\nOver all training images; the last column is the total-variation "
            "distance of W.\n"
        )
        print("| | layer | Pearson's r | rank correlation | distance |\n| --- | --- | ---: | ---: | ---: |")
        for run, packed in [SLICE, *zip(arguments.run, arguments.packed, strict=True)]:
            network, data = trained_network(run).to(device), DefaultViewData.open(packed)
            name = f"{network.spec.name}, {packed.parent.name}, {len(data.rows('train'))} images"
            print("\n".join(quality(name, network, data)), flush=True)
        data = DefaultViewData.open(SLICE[1])
        network = with_trained_head(data, len(data.test_view[0]), device)
        count = len(data.rows("train"))
        subset = data.hold_out(np.setdiff1d(np.arange(count), np.arange(0, count, count // FEW)))
        print("\n".join(quality(f"ResNet-50, random weights, {FEW} images of the slice", network, subset)), flush=True)


if __name__ == "__main__":
    main()
