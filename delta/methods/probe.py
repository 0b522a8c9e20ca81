"""Probe: logistic regression on the source network's pooled features (Donahue et al. 2014, the paper's [31])."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from delta.io.section import distinct
from delta.methods.base import Method


class Probe(Method):
    """No Ω: min over the classifier's weights W and bias b of ½‖W‖² + C Σ_i CE(W f(x_i) + b, y_i).

    f(x_i) are the pooled features of training image i in the test view, without augmentation.

    Attributes:
        c: the values of C, of which cross-validation on the training images takes one.
    """

    label = "Probe"
    frozen_backbone = True
    trains = False
    select: Literal["fixed"] = "fixed"
    alpha: Literal[0] = 0
    beta: Literal[0] = 0
    weight_decay: Literal[0] = 0
    c: Annotated[list[Annotated[float, Field(gt=0)]], AfterValidator(distinct), Field(min_length=1)]
