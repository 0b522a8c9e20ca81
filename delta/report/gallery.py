"""The page's gallery: the units that detect a concept, and the activation maps of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from delta.report.embedding import CSS_DPI, Picture, embedded
from delta.report.names import concept, display, features


@dataclass(frozen=True)
class Unit:
    """A network's best unit for a concept; where there is none, a picture is missing and the caption says so."""

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
class Shelf:
    """The gallery of one data set and backbone."""

    title: str
    concepts: Sequence[Concept]
    classes: Sequence[Picture]


def shelves(figures: Path, gallery: pd.DataFrame | None, classes: pd.DataFrame | None) -> list[Shelf]:
    """The gallery of each data set and backbone that has one.

    Args:
        figures: the folder of the pictures.
        gallery, classes: `reports/plots/gallery.csv` and `map_classes.csv`.
    """
    tables = {"concepts": gallery, "classes": classes}
    pairs: dict[tuple[str, str], dict[str, pd.DataFrame]] = {}
    for name, table in tables.items():
        if table is not None:
            for pair, rows in table.groupby(["dataset", "backbone"], sort=False):
                pairs.setdefault(pair, {})[name] = rows
    return [
        Shelf(
            ", ".join(map(display, pair)),
            _concepts(figures / "units", found["concepts"]) if "concepts" in found else [],
            _classes(figures / "classes", found["classes"]) if "classes" in found else [],
        )
        for pair, found in pairs.items()
    ]


def _concepts(folder: Path, rows: pd.DataFrame) -> list[Concept]:
    """All methods' concepts, the one with the highest IoU of any method first."""
    sizes = rows["method"].value_counts(sort=False)
    ranked = rows.sort_values(["iou", "label"], ascending=[False, True], kind="stable")
    concepts = []
    for (label, category), block in ranked.groupby(["label", "category"], sort=False):
        best = block.drop_duplicates("method").set_index("method")
        units = [
            _unit(folder, method, label, best.loc[method]) if method in best.index else _none(method, sizes[method])
            for method in sizes.index
        ]
        concepts.append(Concept(concept(label), category, units))
    return concepts


def _unit(folder: Path, method: str, label: str, row: pd.Series) -> Unit:
    caption = f"unit {row['unit']}, IoU {row['iou']:.3f}"
    title = f"{concept(label)}: the images on which {features(method)}'s unit {row['unit']} is most active"
    return Unit(features(method), caption, embedded(folder, Path(row["file"]).stem, title, caption, CSS_DPI))


def _none(method: str, shown: int) -> Unit:
    return Unit(features(method), f"not among its {shown} best", None)


def _classes(folder: Path, rows: pd.DataFrame) -> list[Picture]:
    found = [
        embedded(folder, Path(row.file).stem, f"{row.label}", f"Test image {Path(row.path).name}.")
        for row in rows.itertuples()
    ]
    return [picture for picture in found if picture]
