"""Predictions, top-1 accuracy and its mean over classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from delta.data.packed.views import ViewData
from delta.networks.hooks import in_eval_mode
from delta.networks.network import Network


def split_logits(network: Network, data: ViewData, split: str, batch_size: int = 32) -> Tensor:
    """Logits of a split's images in order, float [n, n_classes] on the CPU; test view, eval mode.

    Args:
        batch_size: crops that are passed together; 32 is fastest on a CPU, whose caches hold their maps.
    """
    device = next(network.parameters()).device
    with torch.inference_mode(), in_eval_mode(network):
        batches = data.test_batches(split, network.spec, batch_size, device)
        return torch.cat([image_logits(network, crops, len(targets)) for crops, targets in batches]).cpu()


def top1(network: Network, data: ViewData, split: str) -> float:
    """Share of a split's images whose largest logit is the right class, in percent; test view, eval mode."""
    return accuracy(split_logits(network, data, split), data.targets(split))


def accuracy(logits: Tensor, targets: Tensor) -> float:
    """Share of the images whose largest logit is the right class, in percent.

    Args:
        logits: [n, n_classes].
        targets: class indices, int64 [n].
    """
    return 100 * (logits.argmax(1) == targets).double().mean().item()


def macro_accuracy(logits: Tensor, targets: Tensor) -> float:
    """The accuracy on each class's images (its recall), averaged over the classes that have any; in percent.

    Args:
        logits: [n, n_classes].
        targets: class indices, int64 [n].
    """
    right = (logits.argmax(1) == targets).double()
    counts, hits = targets.bincount(), targets.bincount(right)
    return 100 * (hits[counts > 0] / counts[counts > 0]).mean().item()


def image_logits(network: nn.Module, crops: Tensor, images: int) -> Tensor:
    """Logits of images, [images, n_classes]: the mean of each one's crops (section 4.3).

    Args:
        crops: normalised, [images · crops, 3, h, w], an image's one after the other.
    """
    return network(crops).unflatten(0, (images, -1)).mean(1)
