"""Top-1 accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from delta.networks import Network
from delta.views import Packed


def top1(network: Network, data: Packed, split: str, batch_size: int = 64) -> float:
    """Share of a split's images whose largest logit is the right class, in percent; test view, eval mode.

    The logits of an image's crops are averaged where the view has several (section 4.3).
    """
    device = next(network.parameters()).device
    with torch.inference_mode(), in_eval_mode(network):
        batches = data.test_batches(split, network.spec, batch_size, device)
        right = torch.cat(
            [network(crops).unflatten(0, (len(targets), -1)).mean(1).argmax(1) == targets for crops, targets in batches]
        )
    return 100 * right.double().mean().item()


@contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """Eval mode while the block lasts; then every module is back in its own mode, a frozen backbone in eval mode."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
