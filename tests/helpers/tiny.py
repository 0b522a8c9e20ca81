"""A tiny network, tiny parameters and a tiny packed data set for fast tests of the library."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import timm
import torch
from torch import nn

from delta.analysis.grid_config import Grid
from delta.analysis.recommendation import Candidate, Recommendation, Unknown
from delta.analysis.unknown import class_means, write_class_means
from delta.data.packed.views import ViewData, input_statistics
from delta.data.packing import write_packed
from delta.data.split import assign_splits
from delta.methods.base import Method
from delta.methods.registry import KEYS, method_class
from delta.networks.network import trained_network
from delta.networks.spec import BackboneSpec
from delta.sources.introspection import find_stages
from delta.training.config import Recipe, Training
from delta.training.evaluation import split_features
from delta.training.run import write_run

TRAINED = [key for key in KEYS if key != "probe"]  # the methods of the training loop
CPU = torch.device("cpu")
FILTERS = {"blocks.1.1.conv_pwl": 24, "blocks.2.1.conv_pwl": 40, "blocks.4.2.conv_pwl": 112, "blocks.6.0.conv_pwl": 320}
LAYERS = tuple(FILTERS)
SPEC = BackboneSpec(
    architecture="tf_efficientnet_lite0",
    name="EfficientNet-Lite0, random",
    path=("conv_stem", "bn1", "blocks", "conv_head", "bn2", "global_pool"),
    feature_layers={layer: (layer,) for layer in LAYERS},
    stages=find_stages(
        timm.create_model("tf_efficientnet_lite0", num_classes=0).eval(),
        torch.zeros(1, 3, 64, 64),
        {layer: (layer,) for layer in LAYERS},
    ),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
STATISTICS = input_statistics(SPEC, CPU)
RESIZE, CROP, LEARNING_RATE = 40, 32, 0.01
TRAINING = Training(
    iterations=3,
    batch_size=6,
    momentum=0.9,
    decay_after=2,
    decay_factor=0.1,
    clip_norm=None,
    class_weights=None,
    precision="fp32",
)
GRID = Grid(
    datasets=[],
    backbones=[],
    methods=["delta"],
    started=[],
    alpha=[0.01, 0.1],
    beta=[0.01],
    folds=[0, 1],
    iterations=2,
    estimator="fisher",
    seed=0,
)


def recipe(method: Method, seed: int = 0, training: Training = TRAINING, **others) -> Recipe:
    """A recipe of three iterations, with any of its other fields replaced."""
    return Recipe(
        **{"learning_rate": LEARNING_RATE, "crop": CROP} | others, method=method, training=training, seed=seed
    )


def uneven_channel_weights() -> dict[str, torch.Tensor]:
    """Channel weights that average 1 in each layer, as C·W_j do."""
    return {layer: torch.linspace(0.5, 1.5, count) for layer, count in FILTERS.items()}


def source_classifier() -> nn.Linear:
    """A random classifier of seven classes in the place of the source network's own."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return nn.Linear(1280, 7)


def same_state(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two state dictionaries hold the same bits."""
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def pack(photographs: Path, resize: int, crop: int, out: Path) -> list[str]:
    """Pack the photographs into the folder `out`, four training and two test images per class; return their paths."""
    paths = sorted(path.relative_to(photographs).as_posix() for path in photographs.rglob("*.png"))
    table = pd.DataFrame({"path": paths, "label": [path.split("/")[0] for path in paths]})
    write_packed(photographs, assign_splits(table, 4, 2, seed=0), resize, crop, out)
    return paths


def trained(data: ViewData, weights: Path, out: Path) -> Path:
    """Write a run of L2-SP on the photographs in the view of `data`, and return its folder."""
    chosen = recipe(method_class("l2_sp")(alpha=0.1))
    write_run(out, chosen, data=data, weights=weights, channel_weights=None, resize=RESIZE, device=CPU)
    return out


def recommended(run: Path, data: ViewData, out: Path, temperature: float = 2.0, threshold: float = 0.5) -> Path:
    """Write the folder `out` of a recommended network, a run's with this temperature and threshold; return it."""
    shutil.copytree(run, out)
    features = split_features(trained_network(run), data, "train")
    write_class_means(out, class_means(features, data.targets("train"), len(data.classes)))
    network = {"backbone": "tiny", "method": "l2_sp", "label": "L2-SP", "alpha": 0.1, "beta": 0.0}
    Recommendation(
        candidates=[Candidate(**network, folds=2, top1=75.0, macro=75.0)],
        low=50.0,
        high=90.0,
        images=12,
        folds=2,
        temperature=temperature,
        calibration_error=2.0,
        calibration_error_before=4.0,
        unknown=Unknown(threshold=threshold, kept=95.0),
        reason="It is the only one.",
    ).write(out)
    return out


def with_random_statistics(network: nn.Module) -> nn.Module:
    """Give the batch norms random statistics, so that a forgotten tensor changes the output; set eval mode."""
    noise = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=noise)
            module.running_var.uniform_(0.5, 2, generator=noise)
    return network.eval()


def hooks(network: nn.Module) -> int:
    """How many forward hooks a network has."""
    return sum(len(module._forward_hooks) for module in network.modules())
