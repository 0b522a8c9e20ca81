"""StochNorm: batch-norm that now and then keeps its running statistics (Kou et al., NeurIPS 2020)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from delta.methods.base import Method, Run

if TYPE_CHECKING:
    from torch import Tensor, nn


class StochNorm(Method):
    """L2, and in each training pass each channel of a batch-norm takes its running statistics with probability p.

    The other channels take the batch's, as usual, and the running statistics move by the batch's in all of them. Those
    that are taken are the ones before they move. In the authors' code p is the probability of the batch's statistics;
    its default is the same. (The Transfer-Learning-Library's conversion passes p into another argument.)

    Attributes:
        p: the probability of the running statistics; 0 is plain batch-norm.
    """

    label = "StochNorm"
    alpha: Literal[0] = 0
    beta: Literal[0] = 0
    p: float = Field(0.5, ge=0, le=1)

    def prepare(self, run: Run) -> nn.Module | None:
        for norm in batch_norms(run.backbone):
            norm.forward = partial(_forward, norm, norm.forward, self.p)
        return None

    def finish(self, run: Run) -> None:
        for norm in batch_norms(run.backbone):
            del norm.forward  # the class's own is seen again


def batch_norms(backbone: nn.Module) -> list[Any]:
    """The two-dimensional batch-norm layers, with a fused activation or without."""
    from torch.nn import BatchNorm2d

    return [module for module in backbone.modules() if isinstance(module, BatchNorm2d)]


def _forward(norm: Any, forward: Callable[[Tensor], Tensor], p: float, x: Tensor) -> Tensor:
    """A batch-norm's output, [b, C, h, w]; what follows it within the layer acts on each value alone."""
    import torch

    if not norm.training:
        return forward(x)
    # Copies, as the pass below moves the statistics in place, and the gradient of this one would take the moved ones.
    mean, variance = norm.running_mean, norm.running_var
    norm.training, norm.running_mean, norm.running_var = False, mean.clone(), variance.clone()
    kept = forward(x)
    norm.training, norm.running_mean, norm.running_var = True, mean, variance
    return torch.where(torch.rand(x.shape[1], 1, 1, device=x.device) < p, kept, forward(x))
