"""Co-Tuning: teach the source's classifier what it says of each target class (You et al., NeurIPS 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from delta.methods.base import Method, Penalty, PenaltyInputs, Run

if TYPE_CHECKING:
    from torch import nn


class CoTuning(Method):
    """Ω = − mean_i Σ_s p(s | y_i) · log softmax(s(x_i)), with p(s | y) = mean of softmax(s*(x_j)) over y_j = y.

    s are the logits of the source network's classifier, which is trained along, on the features in training; s* those
    of the source network on the training images in the test view. This p is the authors' `direct` one. Their default
    fits logistic regressions from softmax(s*) to y, chooses one by validation images, calibrates it and inverts it by
    Bayes' rule; they also multiply the logits of their ResNet-50 by 0.884 to calibrate it.

    Attributes:
        lambda_: λ, the weight of Ω; the default is the authors'.
    """

    label = "Co-Tuning"
    uses_classifier = True
    alpha: float = Field(2.3, ge=0, alias="lambda_")

    def prepare(self, run: Run) -> nn.Module | None:
        import copy

        import torch

        assert run.classifier is not None
        sums = torch.zeros(run.classes, run.classifier.out_features, dtype=torch.float64)
        counts = torch.zeros(run.classes, 1, dtype=torch.float64)
        with torch.no_grad():
            for x, targets in run.images():
                probabilities = run.classifier(run.source(x)).softmax(1).double().cpu()
                sums.index_add_(0, targets.cpu(), probabilities)
                counts += targets.cpu().bincount(minlength=run.classes)[:, None]
        own = torch.nn.Module()
        own.classifier = copy.deepcopy(run.classifier).requires_grad_()
        own.register_buffer("relations", (sums / counts.clamp_min(1)).float().to(run.head.weight.device))
        return own

    def shared_penalty(self, inputs: PenaltyInputs) -> Penalty:
        likelihoods = inputs.own.classifier(inputs.features).log_softmax(1)
        return -(inputs.own.relations[inputs.targets] * likelihoods).sum(1).mean()
