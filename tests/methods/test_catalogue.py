"""Every method trains one step on every network of the catalogue, with random weights."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import timm
import torch
from torch import nn

from delta.methods.registry import KEYS, method_class
from delta.networks.network import Network
from delta.sources.catalogue import NETWORKS, SourceNetwork
from delta.sources.weights import describe
from delta.training.loop import fine_tune
from tests.helpers.tiny import SPEC, TRAINING, recipe

pytestmark = pytest.mark.slice  # ResNet-101 takes a minute

ONCE = TRAINING.model_copy(update={"iterations": 1, "batch_size": 2})
PIXELS = 75  # the smallest image that Inception takes


class Images:
    """Six training images of noise, two of each of three classes."""

    def __init__(self):
        self.pixels = torch.randint(0, 255, (6, PIXELS, PIXELS, 3), dtype=torch.uint8).numpy()
        self.classes, self.crops = ["a", "b", "c"], 1

    def targets(self, split):
        assert split == "train"
        return torch.arange(6) % 3

    def training_images(self, batch):
        return list(self.pixels[batch.numpy()])

    def test_batches(self, split, spec, batch_size, device):
        assert split == "train"
        yield torch.randn(6, 3, PIXELS, PIXELS), self.targets("train")


@pytest.fixture(scope="module", params=NETWORKS)
def source(request) -> Network:
    published = NETWORKS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Network(SPEC, 3)
        network.backbone = timm.create_model(published.architecture, num_classes=0)
        with torch.no_grad():  # running statistics that fit the random weights
            for _ in range(5):
                network.backbone(torch.randn(4, 3, PIXELS, PIXELS))
        network.spec = describe(network.eval().backbone, published, SourceNetwork(network=request.param), request.param)
        network.head = nn.Linear(network.backbone.num_features, 3)
        return network


@pytest.mark.parametrize("key", [key for key in KEYS if key != "probe"])
def test_a_step_changes_the_network(key, source):
    method = method_class(key)()
    network = copy.deepcopy(source).requires_grad_()
    maps = source.spec.feature_layers if method.uses_attention else {}
    filters = {layer: sum(source.backbone.get_submodule(c).out_channels for c in maps[layer]) for layer in maps}
    classifier = nn.Linear(source.head.in_features, 10)
    steps: list[SimpleNamespace] = []
    ones = {layer: torch.ones(count) for layer, count in filters.items()}
    chosen = recipe(method, training=ONCE, crop=PIXELS)
    fine_tune(network, source, Images(), chosen, ones, steps.append, classifier=classifier)
    assert len(steps) == method.trains
    changed = any(not torch.equal(a, b) for a, b in zip(network.parameters(), source.parameters(), strict=True))
    assert changed == method.trains
