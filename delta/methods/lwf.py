"""LwF: answer the source's question as the source network does (Li & Hoiem, ECCV 2016, the paper's [17])."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from delta.methods.base import Method, Penalty, PenaltyInputs, Run

if TYPE_CHECKING:
    from torch import nn


class LwF(Method):
    """Ω = mean_i KL(softmax(s*(x_i) / T) ‖ softmax(s(x_i) / T)), without a factor T².

    s are the logits of the source network's classifier on the features in training, s* on the source network's. The
    classifier is kept fixed, and both see the same random crop. Formula, λ and T are those of the
    Transfer-Learning-Library, some of whose versions train the classifier, and whose s* is of a crop drawn once.

    Attributes:
        lambda_: λ, the weight of Ω.
        temperature: T.
    """

    label = "LwF"
    uses_classifier = True
    compares_features = True
    alpha: float = Field(4.0, ge=0, alias="lambda_")
    temperature: float = Field(3.0, gt=0)

    def prepare(self, run: Run) -> nn.Module | None:
        return run.classifier

    def shared_penalty(self, inputs: PenaltyInputs) -> Penalty:
        from torch.nn.functional import kl_div

        logits, source_logits = (inputs.own(each) for each in (inputs.features, inputs.source_features))
        ours, theirs = ((each / self.temperature).log_softmax(1) for each in (logits, source_logits))
        return kl_div(ours, theirs, reduction="batchmean", log_target=True)
