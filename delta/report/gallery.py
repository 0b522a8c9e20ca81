"""The page's gallery: the units that detect a concept, and the activation maps of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from delta.report.inline_pictures import CSS_DPI, Picture, inline_picture
from delta.report.names import concept, display, network_label


@dataclass(frozen=True)
class Unit:
    """A network's best unit for a concept; None for the picture, and a caption that says so, if it has none."""

    network: str
    caption: str
    picture: Picture | None


@dataclass(frozen=True)
class Concept:
    """A concept and each network's best unit for it, in the order of the methods."""

    name: str
    category: str
    units: Sequence[Unit]


@dataclass(frozen=True)
class Gallery:
    """The pictures of one data set and backbone."""

    title: str
    concepts: Sequence[Concept]
    classes: Sequence[Picture]


def galleries(figures: Path, units: pd.DataFrame | None, classes: pd.DataFrame | None) -> list[Gallery]:
    """The gallery of each data set and backbone that has pictures.

    Args:
        figures: the folder of the pictures.
        units, classes: `reports/plots/gallery.csv` and `map_classes.csv`.
    """
    pairs: dict[tuple[str, str], dict[str, pd.DataFrame]] = {}
    for name, table in {"units": units, "classes": classes}.items():
        if table is not None:
            for pair, rows in table.groupby(["dataset", "backbone"], sort=False):
                pairs.setdefault(pair, {})[name] = rows
    return [
        Gallery(
            ", ".join(map(display, pair)),
            _concepts(figures / "units", tables["units"]) if "units" in tables else [],
            _classes(figures / "classes", tables["classes"]) if "classes" in tables else [],
        )
        for pair, tables in pairs.items()
    ]


def _concepts(folder: Path, rows: pd.DataFrame) -> list[Concept]:
    """The concepts of all methods, the one with the highest IoU of any method first."""
    counts = rows["method"].value_counts(sort=False)
    ranked = rows.sort_values(["iou", "label"], ascending=[False, True], kind="stable")
    concepts = []
    for (label, category), block in ranked.groupby(["label", "category"], sort=False):
        best = block.drop_duplicates("method").set_index("method")
        units = [
            _unit(folder, method, label, best.loc[method]) if method in best.index else _no_unit(method, count)
            for method, count in counts.items()
        ]
        concepts.append(Concept(concept(label), category, units))
    return concepts


def _unit(folder: Path, method: str, label: str, row: pd.Series) -> Unit:
    network, caption = network_label(method), f"unit {row['unit']}, IoU {row['iou']:.3f}"
    title = f"{concept(label)}: the images on which {network}'s unit {row['unit']} is most active"
    return Unit(network, caption, inline_picture(folder, Path(row["file"]).stem, title, caption, CSS_DPI))


def _no_unit(method: str, shown_concepts: int) -> Unit:
    return Unit(network_label(method), f"not among its {shown_concepts} best", None)


def _classes(folder: Path, rows: pd.DataFrame) -> list[Picture]:
    pictures = [
        inline_picture(folder, Path(row.file).stem, f"{row.label}", f"Test image {Path(row.path).name}.")
        for row in rows.itertuples()
    ]
    return [picture for picture in pictures if picture]
