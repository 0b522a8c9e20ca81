"""DELTA: keep the feature maps close to the source's, each filter weighted by attention: Equation (8)."""

from __future__ import annotations

from delta.methods.base import FeatureMapMethod, Penalty, PenaltyInputs


class Delta(FeatureMapMethod):
    """Ω = ½ Σ_layers Σ_i Σ_j C·W_j ‖FM_j(ω, x_i) − FM_j(ω*, x_i)‖² / (H·W), summed over the batch (`scale: sum`).

    C·W_j are the channel weights learned from an L2-FE network (Algorithm 1); they average 1. See `scaled` for the
    other scales.
    """

    label = "DELTA"
    uses_attention = True

    def shared_penalty(self, inputs: PenaltyInputs) -> Penalty:
        return sum(
            self.scaled(
                inputs.channel_weights[layer] * (maps - source_maps).square().sum(dim=(0, 2, 3)),
                source_maps,
            )
            for layer, maps, source_maps in inputs.feature_maps(self.rectify)
        )
