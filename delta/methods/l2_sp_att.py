"""L2-SP(ATT): DELTA's attention on L2-SP's weights (section 4.2)."""

from delta.regularizers import Comparison, Method, Penalty, filter_distance, parameter_distance


class L2SPAttention(Method):
    """As L2-SP, but filter j of the convolutions that make a feature layer's channels counts C·W_j times."""

    label = "L2-SP(ATT)"
    uses_attention = True

    def shared_penalty(self, pair: Comparison) -> Penalty:
        extra = (filter_distance(pair, layer, factors - 1) for layer, factors in pair.factors.items())
        return parameter_distance(pair) + sum(extra)
