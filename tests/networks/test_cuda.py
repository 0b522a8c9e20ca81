"""The path on a GPU: no synchronisation in the loop, reproducible bits, the CPU's results. Skipped without a GPU.

tests/test_fake_cuda.py tests it without one.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from delta.attention.importance import filter_importance
from delta.methods.registry import method_class
from delta.networks.devices import deterministic
from delta.networks.network import build_network
from delta.training import loop, state
from tests.helpers.tiny import CPU, TRAINING, recipe, same_state, uneven_channel_weights

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU: its path is not tested here")
CUDA = torch.device("cuda")


def trained(data, weights, **training: Any) -> dict[str, torch.Tensor]:
    """The state of a network that was trained on the GPU, on the CPU."""
    network, source = (build_network(weights, 3).to(CUDA) for _ in range(2))
    method, chosen = method_class("delta")(alpha=0.01, beta=0.01, scale="source"), TRAINING.model_copy(update=training)
    with deterministic():
        loop.fine_tune(network, source, data, recipe(method, training=chosen), uneven_channel_weights())
    return {name: tensor.cpu() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_runs_give_the_same_bits(precision, data, weights):
    one, again = (trained(data, weights, precision=precision) for _ in range(2))
    assert same_state(one, again)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_iteration_does_not_synchronise_with_the_gpu(precision, data, weights, monkeypatch):
    """PyTorch raises an error if the CPU waits, from the first objective of an epoch until its losses are read."""
    watch, compute, read = torch.cuda.set_sync_debug_mode, loop.objective, state.TrainingState._read_pending
    watched = []

    def objective(*args: Any, **kwargs: Any) -> state.Objective:
        watch("error")
        watched.append(torch.cuda.get_sync_debug_mode())
        return compute(*args, **kwargs)

    def read_pending(self: state.TrainingState) -> list[state.Step]:
        watch("default")
        return read(self)

    monkeypatch.setattr(loop, "objective", objective)
    monkeypatch.setattr(state.TrainingState, "_read_pending", read_pending)
    try:
        trained(data, weights, precision=precision, clip_norm=1.0, iterations=8, batch_size=3)  # two epochs
    finally:
        watch("default")
    assert watched == [2] * 8


def test_attention_is_the_cpus_and_folds_batch_norms(data, weights, capsys):
    """Convolutions round to TF32 by default, which this must not."""
    found = {}
    for device in (CPU, CUDA):
        with deterministic():
            found[device] = filter_importance(build_network(weights, 3).to(device), data)
    for layer, expected in found[CPU].items():
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(found[CUDA][layer], expected, rtol=0, atol=1e-4)
    assert "not folded" not in capsys.readouterr().err
