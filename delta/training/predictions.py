"""A run's predictions on its test images, as a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from delta.io.errors import UserError

if TYPE_CHECKING:  # the report reads predictions without PyTorch
    from torch import Tensor

FILE = "predictions.csv"
TEXTS = ("path", "target", "predicted")
NUMBERS = ("probability", "target_probability")


def predictions(paths: Sequence[str], logits: Tensor, targets: Tensor, classes: Sequence[str]) -> pd.DataFrame:
    """One row per image: path, target and predicted (class names), probability (of the predicted class) and
    target_probability.

    Args:
        logits: [n, n_classes]; their softmax is the probabilities.
        targets: class indices, int64 [n].
        classes: names, by the network's outputs.
    """
    probabilities = logits.double().softmax(1)
    predicted = logits.argmax(1)
    return pd.DataFrame(
        {
            "path": list(paths),
            "target": [classes[index] for index in targets.tolist()],
            "predicted": [classes[index] for index in predicted.tolist()],
            "probability": probabilities.gather(1, predicted[:, None])[:, 0].numpy(),
            "target_probability": probabilities.gather(1, targets[:, None])[:, 0].numpy(),
        }
    )


def write_predictions(run: Path, table: pd.DataFrame, name: str = FILE) -> None:
    """Write `predictions` into the folder of their run, probabilities with six digits."""
    table.to_csv(run / name, index=False, float_format="%.6f")


def read_predictions(run: Path, name: str = FILE) -> pd.DataFrame:
    """What `write_predictions` wrote; names stay text, even "7" and "null".

    Raises:
        UserError: the file cannot be read.
    """
    dtypes = dict.fromkeys(TEXTS, str) | dict.fromkeys(NUMBERS, float)
    try:
        table = pd.read_csv(run / name, dtype=dtypes, keep_default_na=False)[list(dtypes)]
    except OSError as error:
        raise UserError(f"{run / name}: no predictions of a run ({error.strerror}): run `dvc repro`") from None
    except (ValueError, KeyError, OverflowError) as error:
        raise UserError(f"{run / name}: no predictions of a run ({error}): run `dvc repro`") from None
    return table
