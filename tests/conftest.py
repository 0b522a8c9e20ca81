"""A tiny packed data set and random source weights, so that the library is tested in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image

from delta.data.packed.views import DefaultViewData, ImprovedViewData, ViewData, input_statistics
from delta.data.packing import write_packed, write_packed_whole
from delta.data.split import assign_splits
from delta.methods import method_class
from delta.networks.network import save_weights
from delta.networks.spec import BackboneSpec
from delta.sources.introspection import find_stages
from delta.training.run import write_run
from stages.common.params import BackboneConfig, Training

LAYERS = ("blocks.1.1.conv_pwl", "blocks.2.1.conv_pwl", "blocks.4.2.conv_pwl", "blocks.6.0.conv_pwl")
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
STATISTICS = input_statistics(SPEC, torch.device("cpu"))
VIEW = BackboneConfig(network="efficientnet_lite0", resize=40, crop=32, learning_rate=0.01)
TRAINING = Training(
    iterations=3, batch_size=6, momentum=0.9, decay_after=2, decay_factor=0.1, clip_norm=20, precision="fp32"
)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> Path:
    """Three class folders of seven small noise images each, of varying size."""
    root, noise = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number, label in enumerate(["ant", "bee", "cow"]):
        (root / label).mkdir()
        for image in range(7):
            pixels = noise.integers(80 * number, 80 * number + 90, (50 + image, 60 - image, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{image}.png")
    return root


def pack(photographs: Path, resize: int, crop: int, out: Path) -> list[str]:
    """Pack the photographs, four training and two test images a class, into the folder `out`; their paths."""
    paths = sorted(path.relative_to(photographs).as_posix() for path in photographs.rglob("*.png"))
    table = pd.DataFrame({"path": paths, "label": [path.split("/")[0] for path in paths]})
    write_packed(photographs, assign_splits(table, 4, 2, seed=0), resize, crop, out)
    return paths


@pytest.fixture(scope="session")
def packed(photographs, tmp_path_factory) -> Path:
    """The photographs, four training and two test images a class, packed at 40 and 32 pixels."""
    out = tmp_path_factory.mktemp("packed")
    pack(photographs, VIEW.resize, VIEW.crop, out)
    return out


@pytest.fixture(scope="session")
def data(packed) -> DefaultViewData:
    return DefaultViewData.open(packed)


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """Source weights: random, with batch-norm statistics that differ from a fresh network's."""
    path = tmp_path_factory.mktemp("weights") / "source.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = timm.create_model(SPEC.architecture, num_classes=0)
        with torch.no_grad():
            for _ in range(8):
                backbone(torch.randn(8, 3, 32, 32))
    save_weights(SPEC, backbone.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def whole(photographs, data, tmp_path_factory) -> ImprovedViewData:
    """The same photographs packed for the improved view."""
    out = tmp_path_factory.mktemp("whole")
    write_packed_whole(photographs, data.index, VIEW.resize, out)
    return ImprovedViewData.open(out, VIEW.crop)


def trained(data: ViewData, weights: Path, out: Path) -> Path:
    """A run of L2-SP on the photographs, in the view of `data`; its folder."""
    options = {"method": method_class("l2_sp")(alpha=0.1), "view": VIEW, "training": TRAINING}
    write_run(out, data=data, weights=weights, channel_weights=None, seed=0, device=torch.device("cpu"), **options)
    return out


@pytest.fixture(scope="session")
def run(data, weights, tmp_path_factory) -> Path:
    """A finished run in the default view."""
    return trained(data, weights, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def improved_run(whole, weights, tmp_path_factory) -> Path:
    """A finished run in the improved view."""
    return trained(whole, weights, tmp_path_factory.mktemp("improved_run"))
