"""The section `recommend` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from delta.io.section import Names, Section, distinct
from delta.training.config import Count, Weights

METHODS = ("probe", "l2_fe", "l2", "l2_sp", "delta")  # from the cheapest to the most expensive


class Recommend(Section):
    """The comparison that recommends one network for each data set, see `delta.analysis.recommend`.

    Attributes:
        datasets: which ones; none turns it off.
        backbones: the networks to compare, the cheapest first.
        methods: what to train each of them with.
        alpha: a method with a penalty is compared at each of these values,
        beta: and at this one.
        folds: into how many parts the training images are divided.
        epochs: of every training run: passes over its training images, with `training` decaying the learning rate after
            the same share of them.
        trial: epochs of a first, shorter training of the cheapest candidate whose backbone is trained, on one fold.
            Nothing else is fine-tuned if it is not more accurate there than the probe. Null omits it.
        seed: of the folds, and of the runs' initialisation and order of images.
    """

    datasets: Names
    backbones: Names
    methods: Annotated[list[Literal[METHODS]], AfterValidator(distinct), Field(min_length=1)]  # type: ignore[valid-type]
    alpha: Annotated[Weights, Field(min_length=1)]
    beta: float = Field(ge=0)
    folds: Annotated[int, Field(ge=2, le=20)]
    epochs: Count
    trial: Count | None
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**31)]
