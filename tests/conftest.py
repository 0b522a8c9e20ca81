"""Session fixtures: a tiny packed data set, random source weights, and finished runs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from delta.data.packed.views import DefaultViewData, ImprovedViewData
from delta.data.packing import write_packed_whole
from delta.networks.network import save_weights
from tests.helpers.tiny import CROP, RESIZE, SPEC, pack, trained

# Files that take minutes come first, so that two workers with one file each finish together (`--no-loadscope-reorder`).
LONGEST = ("test_slice.py", "test_experiments.py", "test_dag.py", "test_repro.py", "test_importance.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="module")
def ctrl_c_interrupts() -> Iterator[None]:
    """Restore Python's SIGINT handler, because background processes of a shell ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> Path:
    """Three class folders, each with seven small noise images of different sizes."""
    root, noise = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number, label in enumerate(["ant", "bee", "cow"]):
        (root / label).mkdir()
        for image in range(7):
            pixels = noise.integers(80 * number, 80 * number + 90, (50 + image, 60 - image, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{image}.png")
    return root


@pytest.fixture(scope="session")
def packed(photographs, tmp_path_factory) -> Path:
    """The photographs packed at 40 and 32 pixels, with four training and two test images per class."""
    out = tmp_path_factory.mktemp("packed")
    pack(photographs, RESIZE, CROP, out)
    return out


@pytest.fixture(scope="session")
def data(packed) -> DefaultViewData:
    return DefaultViewData.open(packed)


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """Random source weights, whose batch-norm statistics differ from those of a new network."""
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
    """The photographs packed for the improved view."""
    out = tmp_path_factory.mktemp("whole")
    write_packed_whole(photographs, data.index, RESIZE, out)
    return ImprovedViewData.open(out, CROP)


@pytest.fixture(scope="session")
def run(data, weights, tmp_path_factory) -> Path:
    """A finished run in the default view."""
    return trained(data, weights, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def improved_run(whole, weights, tmp_path_factory) -> Path:
    """A finished run in the improved view."""
    return trained(whole, weights, tmp_path_factory.mktemp("improved_run"))
