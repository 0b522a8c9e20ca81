"""The objective of each method and its gradient on ResNet-101, compared with torchvision and the formula."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn

from delta.methods.registry import PAPER, method_class
from delta.networks.network import Network
from delta.networks.spec import BackboneSpec
from delta.training.loop import objective

LAYERS = {"layer1.2.conv3": 256, "layer2.3.conv3": 512, "layer3.22.conv3": 1024, "layer4.2.conv3": 2048}
SPEC = BackboneSpec(
    architecture="resnet101",
    name="",
    path=(),
    feature_layers={layer: (layer,) for layer in LAYERS},
    stages={},
    mean=(0, 0, 0),
    std=(1, 1, 1),
)
ALPHA, BETA = 0.03, 0.2

pytestmark = pytest.mark.slice  # takes a minute, because the network is large


def random_state(seed: int) -> dict[str, torch.Tensor]:
    """A float64 state of ResNet-101 near a common starting point, with its own batch-norm statistics."""
    noise = torch.Generator().manual_seed(7)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        state = timm.create_model("resnet101", num_classes=0).double().state_dict()
    for name, tensor in state.items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=noise)
        elif name.endswith("bn3.weight"):  # timm initialises them with 0, which would hide the branch
            tensor.uniform_(0.1, 0.4, generator=noise)
        if seed and tensor.is_floating_point():
            shift = torch.Generator().manual_seed(seed)
            tensor += 0.01 * tensor.abs().mean() * torch.randn(tensor.shape, generator=shift, dtype=tensor.dtype)
    return state


def channel_weights() -> dict[str, torch.Tensor]:
    return {layer: torch.linspace(0.2, 1.8, count, dtype=torch.float64) for layer, count in LAYERS.items()}


@pytest.fixture(scope="module")
def batch():
    noise = torch.Generator().manual_seed(1)
    return torch.randn(3, 3, 64, 64, generator=noise).double(), torch.tensor([0, 4, 2])


@pytest.fixture(scope="module")
def head() -> nn.Linear:
    torch.manual_seed(3)
    return nn.Linear(2048, 5).double()


def ours(
    head: nn.Linear, batch, method, channel_weights: dict[str, torch.Tensor]
) -> tuple[float, dict[str, torch.Tensor]]:
    network, source = (Network(SPEC, 5).double() for _ in range(2))
    network.backbone.load_state_dict(random_state(1))
    source.backbone.load_state_dict(random_state(0))
    network.head.load_state_dict(head.state_dict())
    network.train()
    network.backbone.train(not method.frozen_backbone).requires_grad_(not method.frozen_backbone)
    source.eval().requires_grad_(False)
    loss = objective(network, source, *batch, method, channel_weights).loss
    loss.backward()
    return loss.item(), {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def by_hand(key: str, head: nn.Linear, batch) -> tuple[float, dict[str, torch.Tensor]]:
    images, targets = batch
    target, source = (torchvision.models.resnet101(weights=None).double() for _ in range(2))
    for network, seed in ((target, 1), (source, 0)):
        network.fc = nn.Identity()
        network.load_state_dict(random_state(seed))
    target.train(key != "l2_fe").requires_grad_(key != "l2_fe")
    source.eval()
    maps: dict[tuple[int, str], torch.Tensor] = {}
    for place, network in enumerate((target, source)):
        for layer in LAYERS:
            network.get_submodule(layer).register_forward_hook(
                lambda _m, _i, out, key=(place, layer): maps.__setitem__(key, out)
            )
    classifier = nn.Linear(2048, 5).double()
    classifier.load_state_dict(head.state_dict())
    logits = classifier(target(images))
    with torch.no_grad():
        source(images)

    loss = 0
    for i, y in enumerate(targets):  # mean_i CE(z(x_i, ω), y_i)
        loss = loss + (logits[i].exp().sum().log() - logits[i, y]) / len(targets)
    if key in ("l2_sp", "l2_sp_att"):
        starts = dict(source.named_parameters())
        for name, weight in target.named_parameters():
            squares = (weight - starts[name].detach()) ** 2
            layer = name.removesuffix(".weight")
            if key == "l2_sp_att" and layer in LAYERS:
                squares = squares * channel_weights()[layer][:, None, None, None]
            loss = loss + ALPHA * squares.sum() / 2
    if key.startswith("delta"):
        for layer, filters in LAYERS.items():
            for j in range(filters):
                a, b = (torch.clamp(maps[place, layer][:, j], min=0) for place in (0, 1))
                counted = channel_weights()[layer][j] if key == "delta" else 1.0
                loss = loss + ALPHA * counted * ((a - b) ** 2).sum() / 2 / (a.shape[1] * a.shape[2])
    if key in ("l2_sp", "l2_sp_att", "delta_wo_att", "delta"):
        loss = loss + BETA * (classifier.weight.pow(2).sum() + classifier.bias.pow(2).sum()) / 2
    loss.backward()
    named = [(f"backbone.{name}", p) for name, p in target.named_parameters()]
    named += [(f"head.{name}", p) for name, p in classifier.named_parameters()]
    return loss.item(), {name: p.grad for name, p in named if p.grad is not None}


@pytest.mark.parametrize("key", PAPER)
def test_objective_and_gradient_equal_the_formula(key, head, batch):
    """They agree to 1e-9, relative, in float64."""
    penalised = key in ("l2_sp", "l2_sp_att", "delta_wo_att", "delta")
    method = method_class(key)(**({"alpha": ALPHA, "beta": BETA} if penalised else {"weight_decay": 1e-4}))
    loss, gradient = ours(head, batch, method, channel_weights() if method.uses_attention else {})
    expected_loss, expected = by_hand(key, head, batch)
    assert loss == pytest.approx(expected_loss, rel=1e-9)
    assert gradient.keys() == expected.keys()
    assert len(gradient) == (2 if key == "l2_fe" else 314)
    largest = max(each.norm() for each in expected.values())
    for name, each in expected.items():
        assert (gradient[name] - each).norm() <= 1e-9 * max(each.norm(), 1e-6 * largest), name


def test_bfloat16_is_close(head, batch):
    """With autocast on the CPU, the objective agrees to bfloat16's three digits, and gradients are float32."""
    images, targets = batch[0].float(), batch[1]
    values = []
    for precision in ("fp32", "bf16"):
        network, source = (Network(SPEC, 5) for _ in range(2))
        network.backbone.load_state_dict({n: t.float() for n, t in random_state(1).items()})
        source.backbone.load_state_dict({n: t.float() for n, t in random_state(0).items()})
        single = {layer: each.float() for layer, each in channel_weights().items()}
        method = method_class("delta")(alpha=0.001, beta=0.01)
        terms = objective(network.train(), source.eval(), images, targets, method, single, precision)
        terms.loss.backward()
        assert {term.dtype for term in (*terms, network.head.weight.grad)} == {torch.float32}
        values.append(terms.loss.item())
    assert values[0] != values[1]
    assert values[1] == pytest.approx(values[0], rel=0.05)
