"""Which classes are taken for which: the confusion matrix of each method, and of a recommended network."""

from __future__ import annotations

import numpy as np
import pandas as pd

from delta.report.predictions import Predictions
from delta.report.recommended import Recommended

SHOWN_CLASSES = 30  # of a matrix: more would not be legible
OTHER = "(another class)"


def shown_classes(*images: Predictions) -> np.ndarray:
    """The classes of the matrices, in the order of their names: all that have images, or of many those that all runs
    together are most often wrong on.

    Args:
        images: predictions of the same classes.

    Returns:
        int [n], n ≤ SHOWN_CLASSES.
    """
    counts = np.sum([each.images_per_class for each in images], axis=0)
    wrong = sum(np.bincount(each.targets, (~each.right).mean(0), len(counts)) for each in images)
    tested = np.flatnonzero(counts)
    hardest = tested[np.argsort(-wrong[tested] / counts[tested], kind="stable")]
    return np.sort(hardest[:SHOWN_CLASSES])


def confusion_matrix(predictions: Predictions, method: str, shown: np.ndarray | None = None) -> pd.DataFrame:
    """Of each class's images, which share a method takes for which class, over all of its seeds.

    Args:
        shown: the classes, int [n]; by default `shown_classes`.

    Returns:
        Percent, a row for each class shown, which are the index; the columns are the same classes and, if there are
        more, `OTHER`, so that a row sums to 100, or to 0 where a class has no images.
    """
    shown = shown_classes(predictions) if shown is None else shown
    counts = predictions.confusion(method)[shown]
    names = [predictions.classes[place] for place in shown]
    matrix = pd.DataFrame(counts[:, shown], names, names)
    if len(shown) < len(predictions.classes):
        matrix[OTHER] = counts.sum(1) - counts[:, shown].sum(1)
    return 100 * matrix.div(np.maximum(counts.sum(1), 1), axis=0)


def plot_rows(predictions: Predictions) -> dict[str, pd.DataFrame]:
    """What DVC's template `confusion` counts, see `first_run`, by "<data set>-<backbone>-<method>"."""
    name = f"{predictions.dataset}-{predictions.backbone}"
    return {f"{name}-{method}": first_run(predictions, method) for method in predictions.methods}


def best_plot_rows(best: Recommended) -> dict[str, pd.DataFrame]:
    """The same of a recommended network, on test images and, cross-validated, on training images."""
    (method,) = best.tested.methods
    return {
        f"{best.dataset}-best": first_run(best.tested, method),
        f"{best.dataset}-best-cross_validated": first_run(best.cross_validated, method),
    }


def first_run(predictions: Predictions, method: str) -> pd.DataFrame:
    """target and predicted of each image of `shown_classes`, in a method's run of the first seed.

    A predicted class that is not among these is `OTHER`, as DVC's matrix would have a column for it.
    """
    shown = shown_classes(predictions)
    names = np.array([*predictions.classes, OTHER], object)
    images = np.isin(predictions.targets, shown)
    predicted = predictions.predicted[predictions.of(method)][0, images]
    predicted = np.where(np.isin(predicted, shown), predicted, len(names) - 1)
    return pd.DataFrame({"target": names[predictions.targets[images]], "predicted": names[predicted]})
