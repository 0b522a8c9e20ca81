"""The base class and validators of the sections of params.yaml."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict

T = TypeVar("T", str, int, float)


class Section(BaseModel):
    """A section of params.yaml: unknown keys, infinities and NaN are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def distinct(values: list[T]) -> list[T]:
    """Return the list if it has no duplicates; raise ValueError otherwise."""
    if repeated := {value for value in values if values.count(value) > 1}:
        raise ValueError(f"listed more than once: {', '.join(map(str, sorted(repeated)))}")
    return values


Names = Annotated[list[str], AfterValidator(distinct)]
