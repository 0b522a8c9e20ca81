"""On a GPU: no waiting for it in the loop, the same bits twice, bfloat16. Skipped where there is none."""

from __future__ import annotations

import pytest
import torch
from tests.conftest import SPEC, TRAINING, VIEW

from delta import training
from delta.methods import method_class
from delta.networks.devices import deterministic
from delta.networks.network import build_network
from delta.training.loop import fine_tune

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU: its path is not tested here")
CUDA = torch.device("cuda")


def trained(data, weights, precision: str) -> dict[str, torch.Tensor]:
    network, source = (build_network(weights, 3).to(CUDA) for _ in range(2))
    channel_weights = {
        layer: torch.ones(count) for layer, count in zip(SPEC.feature_layers, (24, 40, 112, 320), strict=True)
    }
    method = method_class("delta")(alpha=0.01, beta=0.01, scale="source")
    chosen = TRAINING.model_copy(update={"precision": precision})
    with deterministic():
        fine_tune(network, source, data, method, channel_weights, chosen, VIEW, 0)
    return {name: tensor.cpu() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_bits_twice(precision, data, weights):
    one, again = (trained(data, weights, precision) for _ in range(2))
    assert all(torch.equal(tensor, again[name]) for name, tensor in one.items())


def test_an_iteration_does_not_wait_for_the_gpu(data, weights, monkeypatch):
    """PyTorch raises at whatever makes the CPU wait, but for the epoch's one reading of the losses."""
    read = training._read

    def allowed(waiting):
        torch.cuda.set_sync_debug_mode("default")
        steps = read(waiting)
        torch.cuda.set_sync_debug_mode("error")
        return steps

    monkeypatch.setattr(training, "_read", allowed)
    monkeypatch.setattr(training, "_all_finite", lambda network: True)
    trained(data, weights, "fp32")  # the first call sets up what is set up once
    torch.cuda.set_sync_debug_mode("error")
    try:
        network, source = (build_network(weights, 3).to(CUDA) for _ in range(2))
        fine_tune(network, source, data, method_class("l2_sp")(alpha=0.01, beta=0.01), {}, TRAINING, VIEW, 0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
