"""DELTA(w/o ATT): keep the feature maps close to the source's, every filter weighted alike (section 4.2)."""

from __future__ import annotations

from delta.methods.base import FeatureMapMethod, Penalty, PenaltyInputs


class DeltaWithoutAttention(FeatureMapMethod):
    """Ω = ½ Σ_layers Σ_i Σ_j ‖FM_j(ω, x_i) − FM_j(ω*, x_i)‖² / (H·W), summed over the batch (`scale: sum`).

    See `scaled` for the other scales.
    """

    label = "DELTA(w/o ATT)"

    def shared_penalty(self, inputs: PenaltyInputs) -> Penalty:
        return sum(
            self.scaled((maps - source_maps).square().sum(dim=(0, 2, 3)), source_maps)
            for _, maps, source_maps in inputs.feature_maps(self.rectify)
        )
