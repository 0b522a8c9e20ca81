"""Predictions, top-1 accuracy and its mean over classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from tqdm import tqdm

from delta.data.packed.views import ViewData
from delta.networks.hooks import in_eval_mode
from delta.networks.network import Network

_PATIENCE = 5  # seconds until a pass over a split shows how far it is


def split_logits(network: Network, data: ViewData, split: str, batch_size: int = 32) -> Tensor:
    """Logits of a split's images in order, float [n, n_classes] on the CPU; test view, eval mode.

    Args:
        batch_size: crops that are passed together; 32 is fastest on a CPU, whose caches hold their maps.
    """
    return _split_outputs(network, network, data, split, batch_size)


def split_features(network: Network, data: ViewData, split: str, batch_size: int = 32) -> Tensor:
    """Pooled features of a split's images in order, float [n, d] on the CPU; test view, eval mode."""
    return _split_outputs(network, network.backbone, data, split, batch_size)


def _split_outputs(network: Network, part: nn.Module, data: ViewData, split: str, batch_size: int) -> Tensor:
    device = next(network.parameters()).device
    with torch.inference_mode(), in_eval_mode(network):
        batches = data.test_batches(split, network.spec, batch_size, device)
        bar = tqdm(batches, desc=split, unit="batch", delay=_PATIENCE, leave=False)
        return torch.cat([mean_of_crops(part(crops), len(targets)) for crops, targets in bar]).cpu()


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


def mean_of_crops(outputs: Tensor, images: int) -> Tensor:
    """What a network says of images, [images, n]: the mean of each one's crops (section 4.3).

    Args:
        outputs: of crops, [images · crops, n], an image's one after the other.
    """
    return outputs.unflatten(0, (images, -1)).mean(1)
