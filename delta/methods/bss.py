"""BSS: shrink the features' smallest singular values (Chen et al., NeurIPS 2019, the paper's [35])."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from delta.io.errors import UserError
from delta.methods.base import Method, Penalty, PenaltyInputs, Run

if TYPE_CHECKING:
    from torch import nn


class BSS(Method):
    """Ω = Σ_{i ≤ k} σ²_{−i}: the k smallest singular values of a batch's pooled features, [b, D], squared.

    Beside it, the original decays all weights, as L2 does. Formula and defaults are those of the authors' code.

    Attributes:
        eta: η, the weight of Ω.
        k: how many singular values.
    """

    label = "BSS"
    alpha: float = Field(0.001, ge=0, alias="eta")
    k: int = Field(1, ge=1)

    def prepare(self, run: Run) -> nn.Module | None:
        if self.k > (values := min(run.batch_size, run.head.in_features)):
            raise UserError(f"{self.label}: k is {self.k}, but a batch's features have only {values} singular values")
        return None

    def shared_penalty(self, inputs: PenaltyInputs) -> Penalty:
        from torch.linalg import svdvals

        return svdvals(inputs.features)[-self.k :].square().sum()
