"""The predictions of four runs on five images of three classes, to be counted by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from delta.training.predictions import write_predictions

LABELS = {"l2": "L2", "delta": "DELTA"}
TARGETS = ["ant", "ant", "bee", "bee", "cat"]
PREDICTED = {
    ("l2", 0): ["ant", "bee", "bee", "ant", "bee"],
    ("l2", 1): ["ant", "ant", "bee", "ant", "bee"],
    ("delta", 0): ["ant", "ant", "bee", "ant", "bee"],
    ("delta", 1): ["ant", "ant", "ant", "ant", "ant"],
}
# Of the predicted class, by run, for every image of the run; the label has so much where it is not the prediction.
PROBABILITY = {("l2", 0): 0.5, ("l2", 1): 0.6, ("delta", 0): 0.7, ("delta", 1): 0.9}
OF_THE_LABEL = [0.3, 0.3, 0.3, 0.2, 0.1]


def write_runs(root: Path, predicted: dict[tuple[str, int], list[str]] = PREDICTED) -> pd.DataFrame:
    """Write the predictions of runs, and return the runs as `delta.report.results.read_results` does, the columns that
    concern predictions."""
    rows = []
    for (method, seed), names in predicted.items():
        run = root / method / str(seed)
        run.mkdir(parents=True)
        write_predictions(run, predictions_of(method, seed, names))
        rows.append(("d", "b", method, seed, LABELS[method], run))
    return pd.DataFrame(rows, columns=["dataset", "backbone", "method", "seed", "method_label", "run"])


def predictions_of(method: str, seed: int, names: list[str]) -> pd.DataFrame:
    """A run's predictions: 0.jpg to 4.jpg."""
    sure, rows = PROBABILITY[method, seed], []
    for number, (target, name) in enumerate(zip(TARGETS, names, strict=True)):
        rows.append((f"{number}.jpg", target, name, sure, sure if name == target else OF_THE_LABEL[number]))
    return pd.DataFrame(rows, columns=["path", "target", "predicted", "probability", "target_probability"])
