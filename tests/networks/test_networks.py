"""Networks: weight files, the steps of the forward pass, and feature layers."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from delta.io.errors import UserError
from delta.networks.network import Network, build_network, save_weights
from tests.helpers.tiny import LAYERS, SPEC


def test_a_weight_file_contains_its_backbone_spec(weights):
    assert build_network(weights, 3).spec == SPEC


def test_a_file_without_weights_is_reported(tmp_path, weights):
    state = load_file(weights)
    save_file(state, tmp_path / "anonymous.safetensors")
    with pytest.raises(UserError, match=r"anonymous.safetensors: not a source network's weights \(no 'backbone'\)"):
        build_network(tmp_path / "anonymous.safetensors", 3)
    save_weights(SPEC, state | {"conv_stem.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="other.safetensors: not a source network's weights .*conv_stem.weight"):
        build_network(tmp_path / "other.safetensors", 3)
    (tmp_path / "broken.safetensors").write_text("no")
    with pytest.raises(UserError, match="broken.safetensors: not a source network's weights"):
        build_network(tmp_path / "broken.safetensors", 3)


def test_network_equals_timms_with_a_new_classifier(weights):
    """The logits equal those of timm's own model with the same weights and classifier."""
    network = build_network(weights, 5, seed=1).eval()
    reference = timm.create_model(SPEC.architecture, num_classes=5).eval()
    reference.load_state_dict(
        load_file(weights) | {f"classifier.{name}": tensor for name, tensor in network.head.state_dict().items()}
    )
    images = torch.randn(2, 3, 64, 64)
    assert torch.allclose(network(images), reference(images), atol=1e-5)
    assert set(network.shared_weights()) == {
        name for name, _ in reference.named_parameters() if "classifier" not in name
    }


def test_steps_equal_the_forward_pass(weights):
    network = build_network(weights, 3).eval()
    images = torch.randn(2, 3, 64, 64)
    x = images
    for _, module in network.steps():
        x = module(x)
    assert torch.equal(network.head(x), network(images))


def test_feature_layers_end_stages_with_strides_4_to_32():
    network = Network(SPEC, 3)
    shapes = []
    for layer in LAYERS:
        network.backbone.get_submodule(layer).register_forward_hook(
            lambda _m, _i, out: shapes.append(tuple(out.shape[1:]))
        )
    network(torch.zeros(1, 3, 96, 96))
    assert shapes == [(24, 24, 24), (40, 12, 12), (112, 6, 6), (320, 3, 3)]


def test_building_does_not_use_the_global_generator():
    before = torch.random.get_rng_state()
    one, again, other = Network(SPEC, 3, seed=1), Network(SPEC, 3, seed=1), Network(SPEC, 3, seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.head.weight, again.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)
