"""DELTA: hold the feature maps close to the source's, filter by filter as attention says, Equation (8)."""

from typing import Literal

from delta.regularizers import FeatureMapMethod


class Delta(FeatureMapMethod):
    """As DELTA(w/o ATT), each filter's term multiplied by C·W_j: the learned factors reach it in `pair`.

    Attributes:
        select: `fixed` takes alpha and beta as they are, the paper's way; `grid` the winner of the grid search.
    """

    label = "DELTA"
    uses_attention = True
    select: Literal["fixed", "grid"] = "fixed"
