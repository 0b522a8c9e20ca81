"""FSP: keep how one layer's maps lead to the next one's (Yim et al., CVPR 2017, the paper's [20])."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from pydantic import Field

from delta.io.errors import UserError
from delta.methods.base import Method, Penalty, PenaltyInputs, Run

if TYPE_CHECKING:
    from torch import Tensor, nn


class FSP(Method):
    """Ω = Σ_pairs mean((G − G*)²), G = F_a F_bᵀ / (H·W) for neighbouring feature layers a and b.

    F are rectified maps with an image's places as columns; the larger ones are averaged down to the smaller's size.
    mean is over images and pairs of channels. Formula and λ are those of RepDistiller, for CIFAR, where the term is
    used in a stage of its own before the training.

    Attributes:
        lambda_: λ, the weight of Ω.
    """

    label = "FSP"
    compares_maps = True
    alpha: float = Field(50.0, ge=0, alias="lambda_")

    def prepare(self, run: Run) -> nn.Module | None:
        if len(run.layers) < 2:
            raise UserError(f"{self.label} compares neighbouring feature layers, but the network has only one")
        return None

    def shared_penalty(self, inputs: PenaltyInputs) -> Penalty:
        from torch.nn.functional import mse_loss

        _, ours, theirs = zip(*inputs.feature_maps(rectify=True), strict=True)
        return sum(mse_loss(g, g_source) for g, g_source in zip(flows(ours), flows(theirs), strict=True))


def flows(maps: Sequence[Tensor]) -> list[Tensor]:
    """G for each pair of neighbours, [b, C_a, C_b]."""
    found = []
    for pair in pairwise(maps):
        height, width = (min(each.shape[place] for each in pair) for place in (2, 3))
        first, second = (averaged(each, height, width) for each in pair)
        found.append((first / (height * width)).mT @ second)
    return found


def averaged(maps: Tensor, height: int, width: int) -> Tensor:
    """Adaptive average pooling, [b, C, H, W] to [b, height·width, C]; as products, whose gradient is deterministic."""
    import torch
    from torch.nn.functional import adaptive_avg_pool1d

    rows = maps.permute(0, 2, 3, 1)  # as channels-last maps lie in memory, so that nothing is copied
    for place, size in ((1, height), (2, width)):
        before, after = rows.shape[:place], rows.shape[place + 1 :]
        if rows.shape[place] != size:
            eye = torch.eye(rows.shape[place], dtype=maps.dtype, device=maps.device)
            flat = rows.reshape(before.numel(), len(eye), after.numel())
            means = adaptive_avg_pool1d(eye, size).mT.expand(len(flat), -1, -1)
            rows = torch.bmm(means, flat).view(*before, size, *after)
    return rows.flatten(1, 2)
