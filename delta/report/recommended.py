"""A data set's recommended network: why it is recommended, and what it says of test and of training images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from delta.analysis.recommendation import CROSS_VALIDATED, Recommendation
from delta.report.predictions import Predictions, combined
from delta.training.predictions import read_predictions


@dataclass(frozen=True)
class Recommended:
    """The network in `runs/<data set>/best`.

    Attributes:
        dataset: its key.
        folder: the network's.
        recommendation: how the candidates compared.
        tested: its predictions of the test images, of one run.
        cross_validated: those of the training images, each by a network that was not trained on it.
    """

    dataset: str
    folder: Path
    recommendation: Recommendation
    tested: Predictions
    cross_validated: Predictions


def read_recommended(dataset: str, folder: Path) -> Recommended:
    """What the stage recommend left.

    Raises:
        UserError: a file is missing or unreadable.
    """
    recommendation = Recommendation.read(folder)
    tables = [read_predictions(folder), read_predictions(folder, CROSS_VALIDATED)]
    classes = sorted({name for table in tables for name in [*table["target"], *table["predicted"]]})
    winner = recommendation.winner
    run = pd.DataFrame([(winner.method, winner.label, 0)], columns=["method", "method_label", "seed"])
    tested, validated = (combined(dataset, winner.backbone, run, [table], classes) for table in tables)
    return Recommended(dataset, folder, recommendation, tested, validated)
