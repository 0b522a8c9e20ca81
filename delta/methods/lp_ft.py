"""LP-FT: fine-tune from the probe's classifier (Kumar et al., ICLR 2022)."""

from __future__ import annotations

from typing import Literal

from delta.methods.base import Method


class LPFT(Method):
    """L2 from the run of the probe of the same seed, with batch-norm in eval mode.

    The probe is the source network with a logistic regression on its features as the classifier. The authors' code runs
    both batch-norm modes.
    """

    label = "LP-FT"
    frozen_statistics = True
    alpha: Literal[0] = 0
    beta: Literal[0] = 0
    start: Literal["probe"] = "probe"
