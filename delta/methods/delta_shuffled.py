"""DELTA(shuffled): DELTA with its attention on other filters, a control that is not in the paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from delta.methods.base import FeatureMapMethod, Penalty, PenaltyInputs, Run

if TYPE_CHECKING:
    from torch import Tensor, nn


class DeltaShuffled(FeatureMapMethod):
    """Ω = ½ Σ_layers Σ_i Σ_j C·W_π(j) ‖FM_j(ω, x_i) − FM_j(ω*, x_i)‖² / (H·W), summed over the batch (`scale: sum`).

    π is a permutation of the layer's filters, drawn from the run's seed once and for all: the weights are exactly as
    uneven as DELTA's, but say nothing of the filters that they fall on. See `scaled` for the other scales.
    """

    label = "DELTA(shuffled)"
    uses_attention = True

    def prepare(self, run: Run) -> nn.Module:
        import torch

        own: Any = torch.nn.Module()
        own.seed, own.shuffled = run.seed, {}
        return own

    def shared_penalty(self, inputs: PenaltyInputs) -> Penalty:
        shuffled = inputs.own.shuffled
        if not shuffled:  # Once, as a GPU waits for what is drawn on the CPU.
            shuffled.update(_shuffled(inputs.channel_weights, inputs.own.seed))
        return sum(
            self.scaled(shuffled[layer] * (maps - source_maps).square().sum(dim=(0, 2, 3)), source_maps)
            for layer, maps, source_maps in inputs.feature_maps(self.rectify)
        )


def _shuffled(channel_weights: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Each layer's weights in an order of its own."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return {
        layer: weights[torch.randperm(len(weights), generator=generator).to(weights.device)]
        for layer, weights in channel_weights.items()
    }
