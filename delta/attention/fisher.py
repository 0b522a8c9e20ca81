"""An estimate of filter importance that takes a few backward passes for all filters instead of a pass per filter.

Removing filter j changes its map a_j by −a_j, and hence, to first order, the logits by −J a_j, where J is the Jacobian
of the logits with respect to the map. The estimate is the increase of the loss under this change of the logits. To
second order, this is the sum of the first-order Taylor term and the Fisher term
½ Σ_k p_k (J a_j)²_k − ½ (Σ_k p_k (J a_j)_k)², but the estimate also holds for large changes of the logits.

J takes one backward pass per class. To need at most three passes for any number of classes, the classes of each image
are grouped into its target, the most probable other class, and all remaining classes, whose logits are combined by
logsumexp.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from delta.networks.hooks import capture_maps
from delta.networks.network import Network

# Pixels at a time. Until the last backward pass, all of the network's maps are kept: 90 MB for an image of 224 x 224
# and EfficientNet-Lite0. More at a time are not faster on a CPU.
_CHUNK_SIZE = {"cpu": 1 << 19, "cuda": 1 << 22}


def estimate_loss_increases(network: Network, x: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Estimate the increase of a batch's summed cross-entropy on removal of a filter, for every filter at once.

    Args:
        network: in eval mode.
        x: normalised images [b, 3, h, w].
        targets: class indices [b].

    Returns:
        The estimates by feature layer, float64 [C] each.
    """
    images = max(1, _CHUNK_SIZE[x.device.type] // (x.shape[2] * x.shape[3]))
    parts = [_loss_increases(network, *part) for part in zip(x.split(images), targets.split(images), strict=True)]
    return {layer: torch.stack([part[layer] for part in parts]).sum(0) for layer in network.spec.feature_layers}


def _loss_increases(network: Network, x: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """`estimate_loss_increases` of as many images as fit into memory."""
    layers = list(network.spec.feature_layers)
    with torch.enable_grad(), capture_maps(network.backbone, layers) as captured:
        logits = network(x.clone().requires_grad_())
        maps = [captured[layer] for layer in layers]
        group_logits, weights = group_classes(logits.detach(), targets)
        changes: dict[str, list[Tensor]] = {layer: [] for layer in layers}
        for weight in weights:
            # An image's maps do not affect other images, so one backward pass yields the gradient of every image.
            gradients = torch.autograd.grad((weight * logits).sum(), maps, retain_graph=True)
            for layer, layer_maps, gradient in zip(layers, maps, gradients, strict=True):
                changes[layer].append((gradient * layer_maps).detach().sum((2, 3)).double())
    return {layer: _loss_increase(group_logits, torch.stack(change, -1)).sum(0) for layer, change in changes.items()}


def group_classes(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Group each image's classes into three: its target, the most probable other class, and the rest.

    With two classes there is no rest, and hence only two groups.

    Args:
        logits: [b, n_classes].
        targets: class indices [b].

    Returns:
        The groups' logits, float64 [b, 3]: the logsumexp of their classes, which keeps the cross-entropy; and the
        derivative of each group's logit with respect to the classes' logits, [3, b, n_classes].
    """
    classes = logits.shape[1]
    target = one_hot(targets, classes).bool()
    rival = one_hot(logits.masked_fill(target, -torch.inf).argmax(1), classes).bool()
    members = torch.stack([target, rival, ~(target | rival)][: min(3, classes)])
    inside = logits.double().masked_fill(~members, -torch.inf)
    return inside.logsumexp(-1).T, inside.softmax(-1).to(logits)


def _loss_increase(group_logits: Tensor, changes: Tensor) -> Tensor:
    """The increase of the first group's cross-entropy when `changes` are subtracted from the logits.

    Args:
        group_logits: [b, 3].
        changes: [b, C, 3].

    Returns:
        [b, C].
    """

    def loss(logits: Tensor) -> Tensor:
        return logits.logsumexp(-1) - logits[..., 0]

    return loss(group_logits[:, None] - changes) - loss(group_logits)[:, None]
