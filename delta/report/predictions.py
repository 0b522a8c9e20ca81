"""What the runs say of every test image, as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from delta.io.errors import UserError
from delta.training.predictions import read_predictions


@dataclass(frozen=True)
class Predictions:
    """The predictions of all runs of one data set and backbone.

    Attributes:
        dataset, backbone: their keys.
        classes: names, sorted; a class is meant by its place among them.
        paths: of the test images.
        targets: the images' classes, int [images].
        runs: one row per run: method, method_label, seed.
        predicted: classes, int [runs, images].
        probability: of the predicted class, float [runs, images].
        target_probability: of the right class, float [runs, images].
    """

    dataset: str
    backbone: str
    classes: list[str]
    paths: list[str]
    targets: np.ndarray
    runs: pd.DataFrame
    predicted: np.ndarray
    probability: np.ndarray
    target_probability: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Whether a run is right on an image, bool [runs, images]."""
        return self.predicted == self.targets

    @property
    def images_per_class(self) -> np.ndarray:
        """The test images of each class, int [classes]."""
        return np.bincount(self.targets, minlength=len(self.classes))

    @property
    def sizes_differ(self) -> bool:
        """Whether some class has more images than another, so that the mean over classes is not that over images."""
        return len(set(self.images_per_class) - {0}) > 1

    @property
    def methods(self) -> dict[str, str]:
        """The methods' printed names by key, in the order of the runs."""
        return dict(zip(self.runs["method"], self.runs["method_label"], strict=True))

    def of(self, method: str) -> np.ndarray:
        """A method's runs, bool [runs]."""
        return (self.runs["method"] == method).to_numpy()

    def rows(self, run: int = 0) -> pd.DataFrame:
        """A run's predictions as a table: path, target, predicted (names), probability and target_probability."""
        names = np.array(self.classes, object)
        return pd.DataFrame(
            {
                "path": self.paths,
                "target": names[self.targets],
                "predicted": names[self.predicted[run]],
                "probability": self.probability[run],
                "target_probability": self.target_probability[run],
            }
        )

    def confusion(self, method: str) -> np.ndarray:
        """How often a method's runs take an image of one class for another, int [classes, classes]; rows are the
        images' own classes."""
        counts = np.zeros((len(self.classes), len(self.classes)), int)
        for predicted in self.predicted[self.of(method)]:
            np.add.at(counts, (self.targets, predicted), 1)
        return counts


def read_all_predictions(runs: pd.DataFrame) -> Iterator[Predictions]:
    """The predictions of each data set and backbone.

    Args:
        runs: see `delta.report.results.read_results`.

    Raises:
        UserError: a run's predictions cannot be read, or are of other images than those of the first run.
    """
    for (dataset, backbone), block in runs.groupby(["dataset", "backbone"], sort=False):
        tables = [read_predictions(run) for run in block["run"]]
        first = tables[0][["path", "target"]]
        for run, table in zip(block["run"], tables, strict=True):
            if not table[["path", "target"]].equals(first):
                raise UserError(f"{run}: was tested on other images than {block['run'].iloc[0]}: run `dvc repro`")
        yield combined(dataset, backbone, block[["method", "method_label", "seed"]].reset_index(drop=True), tables)


def combined(
    dataset: str,
    backbone: str,
    runs: pd.DataFrame,
    tables: Sequence[pd.DataFrame],
    classes: Sequence[str] | None = None,
) -> Predictions:
    """The predictions of several runs on the same images.

    Args:
        runs: one row per run: method, method_label, seed.
        tables: of each run, see `delta.training.predictions`.
        classes: all names, sorted; by default those that occur.
    """
    first = tables[0]
    if classes is None:
        classes = sorted(set(first["target"]).union(*(table["predicted"] for table in tables)))
    places = {name: place for place, name in enumerate(classes)}
    return Predictions(
        dataset,
        backbone,
        list(classes),
        list(first["path"]),
        first["target"].map(places).to_numpy(),
        runs,
        np.stack([table["predicted"].map(places) for table in tables]),
        np.stack([table["probability"] for table in tables]),
        np.stack([table["target_probability"] for table in tables]),
    )
