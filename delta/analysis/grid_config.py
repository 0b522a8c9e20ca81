"""The section `grid` of params.yaml, and the training of one of the grid's cells."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictInt, field_validator

from delta.io.section import Names, Section, distinct
from delta.training.config import Count, Training

Estimator = Literal["exact", "fisher"]
Weights = Annotated[list[Annotated[float, Field(ge=0)]], AfterValidator(distinct)]


class Grid(Section):
    """The grid search for DELTA (Figure 4).

    Attributes:
        select: which α and β DELTA is trained with: `fixed` takes those of its own section, the paper's way; `best`
            the pair with the highest cross-validated accuracy on each data set.
        datasets, backbones: where the grid is searched; no data sets for no grid.
        alpha, beta: the values; every pair of them is a cell.
        folds: 0, 1, ... up to one less than the number of cross-validation folds.
        iterations: of every cell's training run, and of the folds' L2-FE.
        estimator: of the folds' filter importance, as `attention.estimator`.
        seed: decides the folds, and the runs' initialisation and order.
    """

    select: Literal["fixed", "best"]
    datasets: Names
    backbones: Names
    alpha: Weights
    beta: Weights
    folds: list[StrictInt]
    iterations: Count
    estimator: Estimator
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**31)]

    @field_validator("alpha", "beta")
    @classmethod
    def _not_empty(cls, values: list[float]) -> list[float]:
        if not values:
            raise ValueError("the grid is empty: list at least one value")
        return values

    @field_validator("folds")
    @classmethod
    def _at_least_two(cls, folds: list[int]) -> list[int]:
        if len(folds) < 2:
            raise ValueError("cross-validation takes two folds at least: write [0, 1], for five [0, 1, 2, 3, 4]")
        if folds != list(range(len(folds))):
            raise ValueError(f"number the folds from 0 without a gap: {list(range(len(folds)))} (got {folds})")
        return folds

    def shortened(self, training: Training) -> Training:
        """The training of a cell: `iterations` of its own, and the step decay at the same share of them."""
        decay_after = max(1, round(training.decay_after * self.iterations / training.iterations))
        return training.model_copy(update={"iterations": self.iterations, "decay_after": decay_after})
