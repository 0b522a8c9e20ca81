"""L2-SP: stay close to the starting point, Equation (4)."""

from __future__ import annotations

from delta.methods.base import Method, Penalty, PenaltyInputs


class L2SP(Method):
    """Ω = ½ Σ ‖ω_S − ω*_S‖² over every shared parameter."""

    label = "L2-SP"

    def shared_penalty(self, inputs: PenaltyInputs) -> Penalty:
        return 0.5 * sum(
            (weight - inputs.source_weights[name]).square().sum() for name, weight in inputs.weights.items()
        )
