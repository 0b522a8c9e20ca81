"""Attention transfer: look at the same places (Zagoruyko & Komodakis, ICLR 2017, the paper's [43])."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from delta.methods.base import Method, Penalty, PenaltyInputs

if TYPE_CHECKING:
    from torch import Tensor


class AttentionTransfer(Method):
    """Ω = Σ_layers mean((Q − Q*)²), Q being an image's mean_c F² as a vector of length 1; F are rectified maps.

    mean is over images and places. Formula and λ are those of RepDistiller, for CIFAR.

    Attributes:
        lambda_: λ, the weight of Ω.
    """

    label = "Attention transfer"
    compares_maps = True
    alpha: float = Field(1000.0, ge=0, alias="lambda_")

    def shared_penalty(self, inputs: PenaltyInputs) -> Penalty:
        from torch.nn.functional import mse_loss

        return sum(
            mse_loss(attention(maps), attention(source_maps))
            for _, maps, source_maps in inputs.feature_maps(rectify=True)
        )


def attention(maps: Tensor) -> Tensor:
    """Q: the mean square over channels, [b, C, H, W] to [b, H·W], each image's divided by its norm."""
    from torch.nn.functional import normalize

    # The sum is the same after the division, and its gradient is not written out for each channel.
    return normalize(maps.square().sum(1).flatten(1))
