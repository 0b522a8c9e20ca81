"""L2-SP: stay close to the starting point, Equation (4)."""

from __future__ import annotations

from delta.methods.base import Method, Penalty, PenaltyInputs, parameter_distance


class L2SP(Method):
    """Ω = ½ Σ ‖ω_S − ω*_S‖² over every shared parameter."""

    label = "L2-SP"

    def shared_penalty(self, inputs: PenaltyInputs) -> Penalty:
        return parameter_distance(inputs)
