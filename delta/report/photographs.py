"""The test images that all runs get wrong, as pictures: their files, and how the page shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from delta.report.inline_pictures import Picture
from delta.report.names import display
from delta.report.tables.hard_images import how_many
from delta.report.thumbnails import read_thumbnails, write_thumbnails


@dataclass(frozen=True)
class Photographs:
    """The images of one data set and backbone; summary says how many there are."""

    title: str
    summary: str
    pictures: Sequence[Picture]


def write_photographs(out: Path, rows: pd.DataFrame, packed: Callable[[str, str], Path]) -> None:
    """Write the first images of each data set and backbone into the folder `out`, see `write_thumbnails`.

    Args:
        rows: `reports/tables/hard_images.csv`.
        packed: the folder of a data set's and backbone's images.

    Raises:
        UserError: an image cannot be read.
    """
    for pair, block in rows.groupby(["dataset", "backbone"], sort=False):
        write_thumbnails(out, "-".join(pair), packed(*pair), list(block["path"]))


def photographs(folder: Path, rows: pd.DataFrame | None) -> list[Photographs]:
    """What the page shows of each data set and backbone that has such images.

    Args:
        folder: where `write_photographs` wrote.
        rows: `reports/tables/hard_images.csv`; None for none.
    """
    found = []
    for pair, block in rows.groupby(["dataset", "backbone"], sort=False) if rows is not None else ():
        texts = [(Path(row.path).name, _caption(row)) for row in block.itertuples()]
        summary = how_many(block)
        title, summary = ", ".join(map(display, pair)), f"{summary[0].upper()}{summary[1:]}."
        found.append(Photographs(title, summary, read_thumbnails(folder, "-".join(pair), texts)))
    return [each for each in found if each.pictures]


def _caption(row: pd.Series) -> str:
    caption = (
        f"Labelled {row.target}. {row.predicted_runs} of {row.runs} runs say {row.predicted}, with a probability of "
        f"{100 * row.probability:.0f} %."
    )
    return caption + (f" {row.wrong_runs} runs are wrong." if row.predicted_runs < row.wrong_runs else "")
