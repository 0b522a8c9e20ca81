"""What was chosen for a run outside its method's section: parameters by a grid search, and when it is tested."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from delta.io.errors import UserError
from delta.methods.base import Method, Value


class Selection(BaseModel):
    """What was chosen for a run.

    Attributes:
        values: the parameters that replace the method's own; None keeps those.
        test_every_epoch: a figure shows the run's test accuracy after every epoch.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    values: dict[str, Value] | None
    test_every_epoch: bool

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(self.model_dump_json() + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` wrote.

        Raises:
            UserError: the file cannot be read, or holds something else.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: no selected parameters ({error.strerror}): run `dvc repro`") from None
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise UserError(f"{path}: no selected parameters ({reason}): run `dvc repro`") from None
        except ValueError as error:
            raise UserError(f"{path}: no selected parameters ({error}): run `dvc repro`") from None

    def applied_to(self, method: Method) -> Method:
        """The method with the selected parameters.

        Raises:
            UserError: they are none of the method's.
        """
        try:
            return method if self.values is None else method.with_values(self.values)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise UserError(f"{method.label}: other parameters were selected ({reason}): run `dvc repro`") from None
