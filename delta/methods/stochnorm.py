"""StochNorm: batch-norm that now and then keeps its running statistics (Kou et al., NeurIPS 2020)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
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
        for norm in batch_norms(run.backbone) if self.p else []:
            norm.forward = partial(_forward, norm, norm.forward, self.p)
        return None

    def finish(self, run: Run) -> None:
        for norm in batch_norms(run.backbone) if self.p else []:
            del norm.forward  # the class's own is seen again


def batch_norms(backbone: nn.Module) -> list[Any]:
    """The two-dimensional batch-norm layers, with a fused activation or without."""
    from torch.nn import BatchNorm2d

    return [module for module in backbone.modules() if isinstance(module, BatchNorm2d)]


def _forward(norm: Any, forward: Callable[[Tensor], Tensor], p: float, x: Tensor) -> Tensor:
    """A batch-norm's output, [b, C, h, w], and that of timm's `drop` and `act` behind it, if it has them."""
    import torch

    if not norm.training:
        return forward(x)
    kept = torch.rand(x.shape[1], device=x.device) < p
    running = (norm.running_mean, norm.running_var)
    before = [each.clone() for each in running]
    batch = torch.batch_norm_update_stats(x.detach(), *running, norm.momentum)
    norm.num_batches_tracked += 1
    mean, variance = (torch.where(kept, one, other) for one, other in zip(before, batch, strict=True))
    x = _normalised()((mean, variance, kept), norm.eps, x, norm.weight, norm.bias)
    return norm.act(norm.drop(x)) if hasattr(norm, "act") else x


@cache
def _normalised() -> Callable[..., Tensor]:
    """The function ((mean, variance, kept), eps, x, weight, bias) → x̂ · weight + bias.

    x̂ = (x − mean) / √(variance + eps). Where a channel is not kept, its statistics are the batch's, and the gradient
    flows through them as well. A choice between the outputs of two batch-norms would take more than twice the time.
    """
    import torch
    from torch.nn.functional import batch_norm

    class Normalised(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, statistics: tuple[Tensor, ...], eps: float, *inputs: Tensor) -> Tensor:
            (mean, variance, kept), (x, weight, bias), context.eps = statistics, inputs, eps
            context.save_for_backward(x, weight, mean, variance, kept)
            return batch_norm(x, mean, variance, weight, bias, eps=eps)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
            x, weight, mean, variance, kept = context.saved_tensors
            inverse = (variance + context.eps).rsqrt()
            _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
                gradient, x, weight, mean, variance, mean, inverse, False, context.eps, [False, True, True]
            )
            # weight / √(variance + eps) · (gradient − (x̂ · of_weight + of_bias) / n), the latter where not kept
            factor = weight * inverse
            share = factor * ~kept * (-len(kept) / x.numel())
            of_x = batch_norm(x, mean, variance, share * of_weight, share * of_bias, eps=context.eps)
            of_x.addcmul_(gradient, factor.view(-1, 1, 1))
            return None, None, of_x, of_weight, of_bias

    return Normalised.apply
