"""L2-SP: stay close to the starting point, Equation (4)."""

from delta.regularizers import Comparison, Method, Penalty, parameter_distance


class L2SP(Method):
    """Ω = ½ Σ ‖ω_S − ω*_S‖² over every shared parameter."""

    label = "L2-SP"

    def shared_penalty(self, pair: Comparison) -> Penalty:
        return parameter_distance(pair)
