"""L2-SP-Fisher: stay close where the source network is sensitive (Li et al., ICML 2018, the paper's [19])."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from delta.methods.base import Method, Penalty, PenaltyInputs, Run

if TYPE_CHECKING:
    from torch import Tensor, nn


class L2SPFisher(Method):
    """Ω = ½ Σ_j F_j (ω_j − ω*_j)² over ω_S, F_j = mean_i E_k [(∂ log p(k | x_i, ω*) / ∂ω_j)²], divided by its mean.

    p(k | x_i, ω*) are the source classes' probabilities, which E is taken over. The original's x_i are the source
    data; these are not at hand, so the training images take their place, in the test view. Its estimate of F could not
    be read. The division by the mean is this pipeline's: one α is as strong on any network.
    """

    label = "L2-SP-Fisher"
    uses_classifier = True

    def prepare(self, run: Run) -> nn.Module | None:
        import torch

        assert run.classifier is not None
        information = [torch.zeros_like(weight) for weight in run.source.parameters()]
        draws = torch.Generator().manual_seed(run.seed)
        run.source.requires_grad_()
        for x, _ in run.images():
            logits = run.classifier(run.source(x))
            classes = torch.multinomial(logits.softmax(1).detach().cpu(), 1, generator=draws).to(x.device)
            # Drawn from p, each image's score has mean 0, so the square of a batch's sum estimates the sum of squares.
            score = logits.log_softmax(1).gather(1, classes).sum()
            gradients = torch.autograd.grad(score, list(run.source.parameters()))
            torch._foreach_addcmul_(information, gradients, gradients)
        run.source.requires_grad_(False)
        mean = torch.stack([each.sum() for each in information]).sum() / sum(each.numel() for each in information)
        own = torch.nn.Module()
        for number, each in enumerate(information):
            own.register_buffer(str(number), each / mean.clamp_min(1e-30))
        return own

    def shared_penalty(self, inputs: PenaltyInputs) -> Penalty:
        sources = tuple(inputs.source_weights[name] for name in inputs.weights)
        return _weighted_distance()((tuple(inputs.own.buffers()), sources), *inputs.weights.values())


@cache
def _weighted_distance() -> Callable[..., Tensor]:
    """The function ((information, sources), *weights) → ½ Σ F (ω − ω*)², whose gradient flows to the weights, once.

    Written term by term, it would pass over the weights twice as often.
    """
    import torch

    class WeightedDistance(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, fixed: tuple[tuple[Tensor, ...], ...], *weights: Tensor) -> Tensor:
            information, sources = fixed
            differences = torch._foreach_sub(weights, sources)
            gradients = torch._foreach_mul(differences, information)
            context.save_for_backward(*gradients)
            pairs = zip(differences, gradients, strict=True)
            return 0.5 * torch.stack([torch.dot(one.flatten(), other.flatten()) for one, other in pairs]).sum()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
            gradients = context.saved_tensors
            torch._foreach_mul_(gradients, gradient)
            return None, *gradients

    return WeightedDistance.apply
