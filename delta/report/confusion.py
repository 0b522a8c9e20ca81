"""Which classes are taken for which: the confusion matrix of each method."""

from __future__ import annotations

import numpy as np
import pandas as pd

from delta.report.predictions import Predictions

SHOWN_CLASSES = 30  # of a matrix: more would not be legible
OTHER = "(another class)"


def shown_classes(predictions: Predictions) -> np.ndarray:
    """The classes of the matrices, in the order of their names: all that have test images, or of many those that all
    runs together are most often wrong on.

    Returns:
        int [n], n ≤ SHOWN_CLASSES.
    """
    images = predictions.images_per_class
    wrong = np.bincount(predictions.targets, (~predictions.right).mean(0), len(images))
    tested = np.flatnonzero(images)
    hardest = tested[np.argsort(-wrong[tested] / images[tested], kind="stable")]
    return np.sort(hardest[:SHOWN_CLASSES])


def confusion_matrix(predictions: Predictions, method: str) -> pd.DataFrame:
    """Of each class's test images, which share a method takes for which class, over all of its seeds.

    Returns:
        Percent, a row for each of `shown_classes`, which are the index; the columns are the same classes and, if there
        are more, `OTHER`, so that a row sums to 100.
    """
    shown = shown_classes(predictions)
    counts = predictions.confusion(method)[shown]
    names = [predictions.classes[place] for place in shown]
    matrix = pd.DataFrame(counts[:, shown], names, names)
    if len(shown) < len(predictions.classes):
        matrix[OTHER] = counts.sum(1) - counts[:, shown].sum(1)
    return 100 * matrix.div(counts.sum(1), axis=0)


def plot_rows(predictions: Predictions) -> dict[str, pd.DataFrame]:
    """What DVC's template `confusion` counts: target and predicted of each test image of `shown_classes`, in the run of
    the first seed.

    A predicted class that is not among these is `OTHER`, as DVC's matrix would have a column for it.

    Returns:
        A table for each method, by "<data set>-<backbone>-<method>".
    """
    shown = shown_classes(predictions)
    names = np.array([*predictions.classes, OTHER], object)
    images = np.isin(predictions.targets, shown)
    tables = {}
    for method in predictions.methods:
        predicted = predictions.predicted[predictions.of(method)][0, images]
        predicted = np.where(np.isin(predicted, shown), predicted, len(names) - 1)
        tables[f"{predictions.dataset}-{predictions.backbone}-{method}"] = pd.DataFrame(
            {"target": names[predictions.targets[images]], "predicted": names[predicted]}
        )
    return tables
