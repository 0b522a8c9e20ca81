"""Top-1 accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from delta.networks import Network
from delta.views import Packed


def top1(network: Network, data: Packed, split: str, batch_size: int = 64) -> float:
    """Share of a split's images whose largest logit is the right class, in percent; test view, eval mode."""
    device = next(network.parameters()).device
    with torch.inference_mode(), in_eval_mode(network):
        batches = data.test_batches(split, network.spec, batch_size, device)
        right = torch.cat(
            [image_logits(network, crops, len(targets)).argmax(1) == targets for crops, targets in batches]
        )
    return 100 * right.double().mean().item()


def image_logits(network: nn.Module, crops: Tensor, images: int) -> Tensor:
    """Logits of images, [images, n_classes]: the mean of each one's crops (section 4.3).

    Args:
        crops: normalised, [images · crops, 3, h, w], an image's one after the other.
    """
    return network(crops).unflatten(0, (images, -1)).mean(1)


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
