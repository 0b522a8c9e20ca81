"""The schema of `result.json`, for writing and reading."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, FiniteFloat, PositiveInt, ValidationError

from delta.io.errors import UserError

FILE = "result.json"


class TestView(BaseModel):
    """How a run sees test images.

    Attributes:
        resize: pixels of the shorter edge in the improved view; not used in the default view.
        crop: side in pixels of the images that the network sees.
        crops: of an image; 1 in the default view, the whole image resized to the crop, and 10 in the improved view.
    """

    __test__ = False  # not a pytest class

    model_config = ConfigDict(frozen=True, strict=True)

    resize: PositiveInt
    crop: PositiveInt
    crops: Literal[1, 10]


class RunResult(BaseModel):
    """A finished run.

    Attributes:
        label: the method's name in tables and figures.
        top1, macro: accuracy on the test images, and its mean over classes (`macro_accuracy`); percent.
        alpha, beta: the weights of Ω_shared and ½‖ω_P‖² that the run took.
        c: the inverse strength of the probe's regularisation; None for a method without one.
        penalty_share, penalty_share_first_epoch: the share of α · Ω_shared in the objective, in the first iteration and
            over the first epoch, percent. It tells which α on another network is as strong.
        iterations_per_epoch: iterations that pass over the training images once.
        source_network: its name, such as "ResNet-101, ImageNet".
        device: what computed the run, such as `cpu`.
        classes: names, by the network's outputs.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    label: str
    top1: FiniteFloat
    macro: FiniteFloat
    alpha: FiniteFloat
    beta: FiniteFloat
    c: FiniteFloat | None = None
    penalty_share: FiniteFloat
    penalty_share_first_epoch: FiniteFloat
    iterations_per_epoch: PositiveInt
    source_network: str
    device: str
    classes: list[str]
    view: TestView

    def write(self, run: Path) -> None:
        """Write the result into the folder of its run."""
        (run / FILE).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, run: Path) -> Self:
        """What `write` wrote.

        Raises:
            UserError: the folder is not a run's, or an older version wrote it.
        """
        try:
            text = (run / FILE).read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"{run / FILE}: no result of a run ({error.strerror}): run `dvc repro`") from None
        except ValueError as error:
            raise UserError(f"{run / FILE}: no result of a run ({error}): run `dvc repro`") from None
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            if problem["type"] == "missing":
                raise UserError(f"{run / FILE}: has no `{where}`, an older version wrote it: run `dvc repro`") from None
            raise UserError(
                f"{run / FILE}: no result of a run ({where}{': ' if where else ''}{problem['msg']}): run `dvc repro`"
            ) from None
