"""The layer maps that the analyses use, compared with hooks, loops and formulas written in the tests."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch

from delta.analysis.layer_maps import last_convolution, last_stage, layer_maps, min_max_normalise, upsample
from delta.io.errors import UserError
from delta.networks.network import Network, build_network
from delta.sources.catalogue import NETWORKS, SourceNetwork
from delta.sources.weights import describe
from tests.helpers.bilinear import bilinear
from tests.helpers.tiny import SPEC, hooks

LAST_STAGES = {
    "resnet101": "layer4.2",
    "resnet50": "layer4.2",
    "resnet50_places365": "layer4.2",
    "inception_v3": "Mixed_7c",
    "efficientnet_lite0": "bn2",
    "efficientnet_lite1": "bn2",
    "efficientnet_lite2": "bn2",
}


@pytest.fixture
def network(weights):
    return build_network(weights, 3)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(5, 3, 96, 64, generator=torch.Generator().manual_seed(0))


def test_the_last_convolution_is_the_last_feature_layer(network):
    assert last_convolution(network) == "blocks.6.0.conv_pwl"
    assert isinstance(network.backbone.get_submodule(last_convolution(network)), torch.nn.Conv2d)


def test_the_last_stage_is_the_input_of_the_pooling(network, images):
    """The module that is found outputs what timm's `forward_features` returns."""
    (maps,) = layer_maps(network, last_stage(network, 64), [images])
    reference = network.backbone.eval()
    with torch.inference_mode():
        expected = reference.forward_features(images)
    torch.testing.assert_close(maps, expected.relu())


def test_the_last_stage_of_a_resnet_is_its_last_block():
    backbone = timm.create_model("resnet18", num_classes=0)
    path = ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4", "global_pool")

    class Net(torch.nn.Module):
        spec = SPEC

        def __init__(self):
            super().__init__()
            self.backbone = backbone

        def steps(self):
            stages = ((name, self.backbone.get_submodule(name)) for name in path)
            for name, module in stages:
                if isinstance(module, torch.nn.Sequential):
                    yield from ((f"{name}.{child}", part) for child, part in module.named_children())
                else:
                    yield name, module

    assert last_stage(Net(), 64) == "layer4.1"


@pytest.mark.parametrize("name", NETWORKS)
def test_the_last_stage_of_every_network_of_the_catalogue(name):
    """At the size that it was made for; Inception-V3 cannot process 64 pixels."""
    published = NETWORKS[name]
    crop = timm.get_pretrained_cfg(published.architecture).input_size[-1]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = timm.create_model(published.architecture, num_classes=0).eval()
    network = Network(describe(backbone, published, SourceNetwork(network=name), name), 2)
    assert last_stage(network, crop) == LAST_STAGES[name]
    image = torch.randn(1, 3, crop, crop, generator=torch.Generator().manual_seed(0))
    (maps,) = layer_maps(network, LAST_STAGES[name], [image], rectify=False)
    with torch.no_grad():
        expected = network.backbone.eval().forward_features(image)
    torch.testing.assert_close(maps, expected)


@pytest.mark.parametrize(("batch_size", "rectify"), [(1, True), (2, False), (5, True)])
def test_maps_are_the_layers_outputs_in_eval_mode(network, images, batch_size, rectify):
    seen = []
    layer = network.backbone.get_submodule("blocks.4.2.conv_pwl")
    handle = layer.register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
    with torch.no_grad():
        network.eval()(images)
    handle.remove()
    expected = seen[0].clamp(min=0) if rectify else seen[0]
    assert (seen[0] < 0).any()
    network.train()
    maps = torch.cat(list(layer_maps(network, "blocks.4.2.conv_pwl", images.split(batch_size), rectify)))
    torch.testing.assert_close(maps, expected)
    assert network.training and network.backbone.training
    assert hooks(network) == 0


def test_no_hook_is_left_when_iteration_stops_early(network, images):
    maps = layer_maps(network, "blocks.4.2.conv_pwl", images.split(1))
    next(maps)
    assert hooks(network) == 1
    assert not torch.is_inference_mode_enabled()
    maps.close()
    assert hooks(network) == 0
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("layer", "why"), [("blocks.9", "has no such module"), ("global_pool", "does not output maps")]
)
def test_a_layer_without_maps_is_reported(network, images, layer, why):
    with pytest.raises(UserError, match=f"'{layer}'.*{why}") as error:
        list(layer_maps(network, layer, [images]))
    assert "\n" not in str(error.value)
    assert hooks(network) == 0


@pytest.mark.parametrize(("height", "width"), [(7, 9), (3, 4), (20, 5), (2, 2)])
def test_upsampling_is_bilinear_between_the_centres(height, width):
    maps = torch.rand(2, 3, 3, 4, generator=torch.Generator().manual_seed(1))
    found = upsample(maps, (height, width))
    assert found.shape == (2, 3, height, width)
    for image in range(2):
        for channel in range(3):
            expected = bilinear(maps[image, channel].double().numpy(), height, width)
            np.testing.assert_allclose(found[image, channel].numpy(), expected, atol=1e-6)


def test_each_map_is_normalised_by_its_own_range():
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 5.0]], [[-4.0, 0.0], [-2.0, -4.0]]]])
    expected = torch.tensor([[[[0.0, 0.25], [0.5, 1.0]], [[0.0, 1.0], [0.5, 0.0]]]])
    assert min_max_normalise(maps).tolist() == expected.tolist()


@pytest.mark.parametrize("value", [0.0, 3.5])
def test_a_map_without_contrast_is_zero(value):
    assert min_max_normalise(torch.full((2, 4, 4), value)).tolist() == torch.zeros(2, 4, 4).tolist()
