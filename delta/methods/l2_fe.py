"""L2-FE: the source network as a feature extractor (section 3.4)."""

from __future__ import annotations

from typing import Literal

from delta.methods.base import Method


class L2FE(Method):
    """No Ω: only the classifier is trained, with SGD's weight decay."""

    label = "L2-FE"
    frozen_backbone = True
    alpha: Literal[0] = 0
    beta: Literal[0] = 0
