"""What the sections of params.yaml have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class Section(BaseModel):
    """A section of params.yaml: unknown keys, infinities and NaN are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def distinct(values: list) -> list:
    """The list, if no value is in it twice; else ValueError."""
    if repeated := {value for value in values if values.count(value) > 1}:
        raise ValueError(f"listed more than once: {', '.join(map(str, sorted(repeated)))}")
    return values


Names = Annotated[list[str], AfterValidator(distinct)]
