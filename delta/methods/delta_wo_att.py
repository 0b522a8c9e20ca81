"""DELTA(w/o ATT): hold the feature maps close to the source's, every filter alike."""

from delta.regularizers import FeatureMapMethod


class DeltaWithoutAttention(FeatureMapMethod):
    """Ω = ½ Σ_layers Σ_i Σ_j ‖FM_j(ω, x_i) − FM_j(ω*, x_i)‖² / (H·W), summed over the batch (scale `sum`)."""

    label = "DELTA(w/o ATT)"
