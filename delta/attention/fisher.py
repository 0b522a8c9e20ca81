"""Filter importance from a few backward passes for all filters together, where removing each one takes too long.

Removing filter j changes its map a_j by −a_j, and so the logits, to first order, by −J a_j. What the loss of the logits
so changed has risen by is the estimate: to second order it is Taylor's first-order term and the Fisher term
½ Σ_k p_k (J a_j)²_k − ½ (Σ_k p_k (J a_j)_k)², but it holds for large changes of the logits as well.

J takes a backward pass a class. It takes three for any number of classes if each image's classes are gathered into its
own one, the most probable other one, and the rest, whose logit is their logsumexp.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from delta.networks.hooks import capture_maps
from delta.networks.network import Network


def estimated_rises(network: Network, x: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """How much a batch's summed cross-entropy rises when a filter is removed, estimated for every filter at once.

    Args:
        network: in eval mode.
        x: normalised images [b, 3, h, w].
        targets: class indices [b].

    Returns:
        By feature layer, float64 [C].
    """
    layers = list(network.spec.feature_layers)
    with torch.enable_grad(), capture_maps(network.backbone, layers) as found:
        logits = network(x.clone().requires_grad_())
        maps = [found[layer] for layer in layers]
        groups, weights = gathered(logits.detach(), targets)
        changes: dict[str, list[Tensor]] = {layer: [] for layer in layers}
        for group in weights:
            # An image's maps depend on no other image, so one backward pass has every image's own gradient.
            gradients = torch.autograd.grad((group * logits).sum(), maps, retain_graph=True)
            for layer, one, gradient in zip(layers, maps, gradients, strict=True):
                changes[layer].append((gradient * one).detach().sum((2, 3)).double())
    return {layer: _rise(groups, torch.stack(change, -1)).sum(0) for layer, change in changes.items()}


def gathered(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Each image's classes as three: its own, the most probable other one, and the rest; as two where there is no rest.

    Args:
        logits: [b, classes].
        targets: [b].

    Returns:
        The groups' logits, float64 [b, 3]: of several classes their logsumexp, which leaves the cross-entropy as it
        was; and the share of each class's change that they change by, [3, b, classes].
    """
    classes = logits.shape[1]
    own = one_hot(targets, classes).bool()
    rival = one_hot(logits.masked_fill(own, -torch.inf).argmax(1), classes).bool()
    members = torch.stack([own, rival, ~(own | rival)][: min(3, classes)])
    inside = logits.double().masked_fill(~members, -torch.inf)
    return inside.logsumexp(-1).T, inside.softmax(-1).to(logits)


def _rise(groups: Tensor, changes: Tensor) -> Tensor:
    """Cross-entropy of the first group after the changes minus that before: [b, 3] and [b, C, 3] to [b, C]."""

    def loss(logits: Tensor) -> Tensor:
        return logits.logsumexp(-1) - logits[..., 0]

    return loss(groups[:, None] - changes) - loss(groups)[:, None]
