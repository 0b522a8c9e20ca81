"""L2: fine-tuning with weight decay, Equation (3)."""

from __future__ import annotations

from typing import Literal

from delta.methods.base import Method


class L2(Method):
    """No Ω: SGD's weight decay on every parameter."""

    label = "L2"
    alpha: Literal[0] = 0
    beta: Literal[0] = 0
