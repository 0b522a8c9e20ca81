"""DELTA: hold the feature maps close to the source's, filter by filter as attention says, Equation (8)."""

from delta.regularizers import FeatureMapMethod


class Delta(FeatureMapMethod):
    """As DELTA(w/o ATT), each filter's term multiplied by C·W_j: the learned factors reach it in `pair`."""

    label = "DELTA"
    uses_attention = True
