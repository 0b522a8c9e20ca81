"""The section `grid` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt, field_validator

from delta.io.section import Names, Section
from delta.training.config import Count, Weights

Estimator = Literal["exact", "fisher"]


class StartedRun(Section):
    """A method that starts from another run.

    Attributes:
        method: the method.
        start: the method whose run of the same seed gives the initial weights.
    """

    method: str
    start: str


class Grid(Section):
    """The grid search (Figure 4).

    Attributes:
        datasets, backbones: the pairs to run the grid search on; it is off without data sets.
        methods: the methods to run it for.
        started: those of `started` to run it for.
        alpha, beta: the values; every pair of them is a cell of each method that has no `search` of its own.
        folds: 0, 1, …, up to one less than the number of cross-validation folds.
        iterations: of the training runs of the cells, and of each fold's L2-FE run.
        estimator: of each fold's filter importance, as `attention.estimator`.
        seed: of the folds, and of the runs' initialisation and order of images.
    """

    datasets: Names
    backbones: Names
    methods: Names = Field(min_length=1)
    started: list[StartedRun]
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
            raise ValueError("cross-validation needs at least two folds: write [0, 1], or [0, 1, 2, 3, 4] for five")
        if folds != list(range(len(folds))):
            raise ValueError(f"number the folds from 0 without a gap: {list(range(len(folds)))} (got {folds})")
        return folds
