"""The images of a recommended network that deserve a look: those with the highest loss, and suspect labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from delta.report.inline_pictures import Picture
from delta.report.table import Table
from delta.report.tables import highest_losses, suspect_labels
from delta.report.thumbnails import read_thumbnails, write_thumbnails

# A table of images by its name, which the folder of its pictures has, too.
TABLES = {"highest_losses": highest_losses, "suspect_labels": suspect_labels}


@dataclass(frozen=True)
class BestGallery:
    """Some images of one data set.

    Attributes:
        title, legend, summary: what they are, by which rule, and how many there are.
        pictures: the first of them.
        table: more of them; None where there are none.
        file: the table of all of them.
    """

    title: str
    legend: str
    summary: str
    pictures: Sequence[Picture]
    table: Table | None
    file: str


def write_galleries(out: Path, tables: Mapping[str, pd.DataFrame], packed: Mapping[str, Path]) -> None:
    """Write the first images of each table of TABLES into a folder of its name.

    Args:
        out: the folder of the report's figures.
        tables: the report's; some may be missing.
        packed: the folder of the images by data set, as the recommended network sees them.

    Raises:
        UserError: an image cannot be read.
    """
    for name in TABLES.keys() & tables.keys():
        for dataset, rows in tables[name].groupby("dataset", sort=False):
            write_thumbnails(out / name, str(dataset), packed[str(dataset)], list(rows["path"]))


def best_galleries(figures: Path, row: Any, tables: Mapping[str, pd.DataFrame]) -> list[BestGallery]:
    """What the page shows of a recommended network.

    Args:
        figures: the folder of the report's figures.
        row: of `reports/tables/recommendation.csv`.
        tables: the report's, of the same data set.
    """
    nothing = {
        "highest_losses": f"The network gives at least one half to the label of each of {row.test_images:,} images.",
        "suspect_labels": f"By this rule none of {row.images:,} labels is suspect.",
    }
    found = []
    for name, module in TABLES.items():
        rows = tables.get(name)
        if rows is None or rows.empty:
            found.append(BestGallery(module.TITLE, module.LEGEND, nothing[name], [], None, ""))
            continue
        texts = [(each.path, _caption(each)) for each in rows.itertuples()]
        pictures = read_thumbnails(figures / name, row.dataset, texts)
        summary, file = f"{module.how_many(rows).capitalize()}.", f"reports/tables/{name}.csv"
        found.append(BestGallery(module.TITLE, module.LEGEND, summary, pictures, module.image_table(rows), file))
    return found


def _caption(row: Any) -> str:
    said = "right, but hesitant" if row.predicted == row.target else f"taken for {row.predicted}"
    return f"Labelled {row.target} ({100 * row.target_probability:.0f} %), {said} ({100 * row.probability:.0f} %)."
