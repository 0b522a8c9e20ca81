"""FitNets: one layer's maps as a hint (Romero et al., ICLR 2015, the paper's [42])."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from delta.io.errors import UserError
from delta.methods.base import Method, Penalty, PenaltyInputs, Run

if TYPE_CHECKING:
    from torch import nn


class FitNets(Method):
    """Ω = mean((F − F*)²) over images, channels and places of one feature layer's rectified maps.

    Formula, λ and the second layer are those of RepDistiller, for CIFAR. It adapts the student's maps to the teacher's
    by a convolution; here both networks have the same maps.

    Attributes:
        lambda_: λ, the weight of Ω.
        hint: which of the network's feature layers, from 1.
    """

    label = "FitNets"
    compares_maps = True
    alpha: float = Field(100.0, ge=0, alias="lambda_")
    hint: int = Field(2, ge=1)

    def prepare(self, run: Run) -> nn.Module | None:
        if self.hint > len(run.layers):
            raise UserError(f"{self.label}: hint is {self.hint}, but the network has {len(run.layers)} feature layers")
        return None

    def shared_penalty(self, inputs: PenaltyInputs) -> Penalty:
        from torch.nn.functional import mse_loss

        layer = list(inputs.maps)[self.hint - 1]
        return mse_loss(inputs.maps[layer].relu(), inputs.source_maps[layer].relu())
