"""Top-1 accuracy."""

from __future__ import annotations

import torch

from delta.networks import Network
from delta.views import Packed


def top1(network: Network, data: Packed, split: str, batch_size: int = 64) -> float:
    """Share of a split's images whose largest logit is the right class, in percent; test view, eval mode."""
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    with torch.inference_mode():
        batches = data.test_batches(split, network.spec, batch_size, device)
        right = torch.cat([network(images).argmax(1) == targets for images, targets in batches])
    network.train(was_training)
    return 100 * right.double().mean().item()
