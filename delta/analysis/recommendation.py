"""The schema of `recommendation.json`: which network a data set should be classified with, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, FiniteFloat, PositiveInt, ValidationError
from scipy.stats import binomtest

from delta.io.errors import UserError

FILE = "recommendation.json"
CROSS_VALIDATED = "cross_validated.csv"  # the winner's, with the columns of `delta.training.predictions`


def interval(right: int, images: int) -> tuple[float, float]:
    """Wilson's 95 % confidence interval of an accuracy, in percent."""
    low, high = binomtest(right, images).proportion_ci(0.95, method="wilson")
    return 100 * float(low), 100 * float(high)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class Candidate(_Frozen):
    """A network that was compared by cross-validation on training images.

    Attributes:
        backbone, method: keys of params.yaml.
        alpha, beta: of a method with a penalty; None for others.
        c: the inverse strength of the probe's regularisation; None for others.
        folds: how many folds were computed before the candidate was given up; all of them for the winner.
        top1, macro: accuracy in percent on the held-out images of these folds, and its mean over classes.
    """

    backbone: str
    method: str
    label: str
    alpha: FiniteFloat | None = None
    beta: FiniteFloat | None = None
    c: FiniteFloat | None = None
    folds: PositiveInt
    top1: FiniteFloat
    macro: FiniteFloat


class Unknown(_Frozen):
    """When an image counts as none of the classes: its similarity to the nearest class is below the threshold.

    Attributes:
        threshold: a cosine, see `delta.analysis.unknown`; chosen on cross-validated training images.
        kept: the share of those that reach it, percent.
    """

    threshold: FiniteFloat
    kept: FiniteFloat


class Recommendation(_Frozen):
    """What a data set's training images recommend; the folder `runs/<data set>/best` is the network.

    It holds no times, so that two runs give the same bytes; `data/wall_times/recommend-<data set>.json` has that of
    the stage.

    Attributes:
        candidates: the winner first, then by cross-validated accuracy.
        low, high: the 95 % interval of the winner's cross-validated top-1, percent.
        images, folds: how many training images, and into how many parts they were divided.
        temperature: logits are divided by it; fitted on the winner's cross-validated logits.
        calibration_error, calibration_error_before: expected calibration error of those with and without it, percent.
        reason: in one sentence, why this one.
    """

    candidates: list[Candidate]
    low: FiniteFloat
    high: FiniteFloat
    images: PositiveInt
    folds: PositiveInt
    temperature: FiniteFloat
    calibration_error: FiniteFloat
    calibration_error_before: FiniteFloat
    unknown: Unknown
    reason: str

    @property
    def winner(self) -> Candidate:
        return self.candidates[0]

    def write(self, folder: Path) -> None:
        """Write it into the folder of the recommended network."""
        (folder / FILE).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What `write` wrote.

        Raises:
            UserError: there is none, or an older version wrote it.
        """
        try:
            return cls.model_validate_json((folder / FILE).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{folder / FILE}: no recommendation ({error.strerror}): run `dvc repro`") from None
        except (ValueError, ValidationError) as error:
            why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise UserError(f"{folder / FILE}: no recommendation ({why}): run `dvc repro`") from None
