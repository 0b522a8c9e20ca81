"""How the page starts where a data set has a recommended network: which, how good, how to use it, where it is wrong."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from delta.report.best_galleries import BestGallery, best_galleries
from delta.report.confusion import SHOWN_CLASSES
from delta.report.inline_pictures import Picture, inline_picture
from delta.report.names import display
from delta.report.statistics import format_duration
from delta.report.table import Table
from delta.report.tables import best_classes
from delta.report.tables.recommendation import candidate_table, network, with_interval


@dataclass(frozen=True)
class Advice:
    """What the page says of a data set's recommended network.

    Attributes:
        title: the data set's.
        headline: which network, and how good, in a sentence.
        facts: the same and more, as heading and sentences.
        commands: how to use it, each with what it does.
        candidates: what it was compared with.
        classes, more_classes: class by class; None for `more_classes` where `classes` has all of them.
        confusion: which classes it takes for which.
        galleries: images that deserve a look.
    """

    title: str
    headline: str
    facts: Mapping[str, str]
    commands: Sequence[tuple[str, str]]
    candidates: Table
    classes: Table
    more_classes: Table | None
    confusion: Picture | None
    galleries: Sequence[BestGallery]


def advice(figures: Path, tables: Mapping[str, pd.DataFrame], seconds: Mapping[str, float]) -> list[Advice]:
    """What the page says of each data set that has a recommended network.

    Args:
        figures: the folder of the pictures.
        tables: the frames of the report's tables, by name.
        seconds: how long the recommendation took, by data set; it may lack some.
    """
    if "recommendation" not in tables:
        return []
    return [_advice(row, figures, tables, seconds) for row in tables["recommendation"].itertuples()]


def _advice(row: Any, figures: Path, tables: Mapping[str, pd.DataFrame], seconds: Mapping[str, float]) -> Advice:
    own = {name: frame[frame["dataset"] == row.dataset] for name, frame in tables.items() if "dataset" in frame}
    classes = own["best_classes"]
    return Advice(
        title=display(row.dataset),
        headline=headline(row),
        facts=facts(row, seconds.get(row.dataset)),
        commands=commands(row.folder),
        candidates=candidate_table(own["candidates"]),
        classes=best_classes.best_class_table(classes),
        more_classes=best_classes.best_class_table(classes, None) if len(classes) > best_classes.SHOWN else None,
        confusion=_confusion(figures, row, len(classes)),
        galleries=best_galleries(figures, row, own),
    )


def headline(row: Any) -> str:
    """Which network a data set's images recommend, and how good it is, in a sentence.

    Args:
        row: of `reports/tables/recommendation.csv`.
    """
    return (
        f"For {display(row.dataset)} the recommended network is {network(row)}: {row.test_top1:.1f} % of the test "
        f"images are right, 95 % confidence interval [{row.test_low:.1f}, {row.test_high:.1f}]."
    )


def facts(row: Any, seconds: float | None) -> dict[str, str]:
    """What is known of a recommended network, sentences by their heading.

    Args:
        row: of `reports/tables/recommendation.csv`.
        seconds: how long the recommendation took; None if that is not known.
    """
    time = f"{format_duration(seconds)} for comparing the candidates and training the network." if seconds else ""
    mean = ", {:.1f} % as the mean of the classes".format if row.sizes_differ else "".format
    best_of = f"As the best of {row.candidates} candidates it is a little too high. " if row.candidates > 1 else ""
    return {
        "Network": f"{network(row)}. {row.reason}",
        "In cross-validation": (
            f"{with_interval(row.top1, row.low, row.high)} % of the {row.images:,} training images are right, in "
            f"{row.folds} folds{mean(row.macro)}. {best_of}In brackets: the 95 % confidence interval."
        ),
        "On test images": (
            f"{row.test_right:,} of {row.test_images:,} are right, "
            f"{with_interval(row.test_top1, row.test_low, row.test_high)} %{mean(row.test_macro)}. They chose nothing."
        ),
        **({"Time": time} if time else {}),
        "Probabilities": (
            f"They are off by {row.calibration_error_before:.1f} points on average as trained, and by "
            f"{row.calibration_error:.1f} after the logits are divided by {row.temperature:.2f}, as they are when the "
            "network is used (expected calibration error on cross-validated training images)."
        ),
        "Unknown images": (
            "With --unknown, an image is none of the classes where the cosine of its features and the nearest class "
            f"mean is below {row.threshold:.3g}. Of the cross-validated training images {row.kept:.1f} % reach it."
        ),
    }


def commands(folder: str) -> list[tuple[str, str]]:
    """What a recommended network is used with: what a command does, and the command.

    Args:
        folder: the network's.
    """
    run = shlex.quote(folder)
    first = "Classify new images; where no other network is recommended, the run may be left out"
    return [
        (first, f"python -m delta.predict {run} ../new"),
        ("The same, and say which belong to none of the classes", f"python -m delta.predict {run} ../new --unknown"),
        ("Write it as ONNX and safetensors", f"python -m delta.export {run} --out exported"),
    ]


def _confusion(figures: Path, row: Any, classes: int) -> Picture | None:
    caption = (
        "A row is a class, a column what the network says, the grey the share of the class's images; what is right "
        "lies on the diagonal. On the left the test images, on the right the training images, each classified by a "
        "network that was not trained on it."
    )
    if classes > SHOWN_CLASSES:
        caption += f" Of {classes:,} classes the {SHOWN_CLASSES} hardest are drawn; the last column is all the others."
    title = f"Which classes are taken for which, {display(row.dataset)}"
    return inline_picture(figures, f"best-{row.dataset}", title, caption)
