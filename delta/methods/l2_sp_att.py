"""L2-SP(ATT): DELTA's attention on L2-SP's weights (section 4.2)."""

from __future__ import annotations

from delta.methods.base import Method, Penalty, PenaltyInputs, parameter_distance


class L2SPAttention(Method):
    """Ω = ½ Σ ‖ω_S − ω*_S‖² + ½ Σ_layers Σ_j (C·W_j − 1) ‖ω_j − ω*_j‖².

    The first sum is L2-SP's, over every shared parameter; with the second, filter j of the convolutions that make a
    feature layer's channels counts C·W_j times.
    """

    label = "L2-SP(ATT)"
    uses_attention = True

    def shared_penalty(self, inputs: PenaltyInputs) -> Penalty:
        extra = 0
        for layer, channel_weights in inputs.channel_weights.items():
            names = [f"{convolution}.weight" for convolution in inputs.filters[layer]]
            parts = (channel_weights - 1).split([len(inputs.weights[name]) for name in names])
            squares = [
                (inputs.weights[name] - inputs.source_weights[name]).square().flatten(1).sum(1) for name in names
            ]
            extra = extra + 0.5 * sum((part * square).sum() for part, square in zip(parts, squares, strict=True))
        return parameter_distance(inputs) + extra
