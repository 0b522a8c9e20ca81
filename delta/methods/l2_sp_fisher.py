"""L2-SP-Fisher: stay close where the source network is sensitive (Li et al., ICML 2018, the paper's [19])."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delta.methods.base import Method, Penalty, PenaltyInputs, Run

if TYPE_CHECKING:
    from torch import nn


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
        distances = (weight - inputs.source_weights[name] for name, weight in inputs.weights.items())
        pairs = zip(inputs.own.buffers(), distances, strict=True)
        return 0.5 * sum((information * distance.square()).sum() for information, distance in pairs)
