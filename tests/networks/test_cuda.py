"""Training on a GPU: no synchronisation in the loop, reproducible bits, bfloat16. Skipped without a GPU."""

from __future__ import annotations

import pytest
import torch

from delta.methods.registry import method_class
from delta.networks.devices import deterministic
from delta.networks.network import build_network
from delta.training import state
from delta.training.loop import fine_tune
from tests.helpers.tiny import TRAINING, recipe, uneven_channel_weights

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU: its path is not tested here")
CUDA = torch.device("cuda")


def trained(data, weights, precision: str) -> dict[str, torch.Tensor]:
    network, source = (build_network(weights, 3).to(CUDA) for _ in range(2))
    method = method_class("delta")(alpha=0.01, beta=0.01, scale="source")
    chosen = TRAINING.model_copy(update={"precision": precision})
    with deterministic():
        fine_tune(network, source, data, recipe(method, training=chosen), uneven_channel_weights())
    return {name: tensor.cpu() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_runs_give_the_same_bits(precision, data, weights):
    one, again = (trained(data, weights, precision) for _ in range(2))
    assert all(torch.equal(tensor, again[name]) for name, tensor in one.items())


def test_an_iteration_does_not_synchronise_with_the_gpu(data, weights, monkeypatch):
    """PyTorch raises an error if the CPU waits, except for reading the losses once per epoch."""
    read = state.TrainingState._read_pending

    def allowed(self):
        torch.cuda.set_sync_debug_mode("default")
        steps = read(self)
        torch.cuda.set_sync_debug_mode("error")
        return steps

    monkeypatch.setattr(state.TrainingState, "_read_pending", allowed)
    monkeypatch.setattr(state, "_all_finite", lambda network: True)
    trained(data, weights, "fp32")  # the first call initialises CUDA libraries
    torch.cuda.set_sync_debug_mode("error")
    try:
        network, source = (build_network(weights, 3).to(CUDA) for _ in range(2))
        fine_tune(network, source, data, recipe(method_class("l2_sp")(alpha=0.01, beta=0.01)), {})
    finally:
        torch.cuda.set_sync_debug_mode("default")
