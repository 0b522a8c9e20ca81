"""LP-FT: fine-tune from the probe's classifier (Kumar et al., ICLR 2022)."""

from __future__ import annotations

from typing import Literal

from delta.methods.base import Method


class LPFT(Method):
    """L2 from a run with the source network's features and a trained classifier, with batch-norm in eval mode.

    The probe's run is one, its classifier a logistic regression; L2-FE's is another. The authors' code runs both
    batch-norm modes.
    """

    label = "LP-FT"
    frozen_statistics = True
    starts = True
    alpha: Literal[0] = 0
    beta: Literal[0] = 0
