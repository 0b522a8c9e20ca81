"""The test images that all runs get wrong, as pictures: their files, and how the page shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image

from delta.data.packed.disk_array import DiskArray
from delta.data.packed.index import read_index
from delta.io.errors import UserError
from delta.report.inline_pictures import CSS_DPI, Picture, inline_picture
from delta.report.names import display
from delta.report.tables.hard_images import how_many

SHOWN = 12  # images of each data set and backbone


@dataclass(frozen=True)
class Photographs:
    """The images of one data set and backbone; summary says how many there are."""

    title: str
    summary: str
    pictures: Sequence[Picture]


def write_photographs(out: Path, rows: pd.DataFrame, packed: Callable[[str, str], Path]) -> None:
    """Write the first SHOWN images of each data set and backbone into the folder `out`, as the networks see them when
    they are tested.

    Args:
        rows: `reports/tables/hard_images.csv`.
        packed: the folder of a data set's and backbone's images.

    Raises:
        UserError: an image cannot be read.
    """
    for pair, block in rows.groupby(["dataset", "backbone"], sort=False):
        folder = packed(*pair)
        index = read_index(folder)
        places = {path: place for place, path in enumerate(index["path"])}
        try:
            pixels = DiskArray.npy(folder / "test_view.npy")
            found = [pixels[places[path]] for path in block["path"].head(SHOWN)]
        except UserError:
            raise
        except Exception as error:  # a damaged .npy file raises many types
            raise UserError(f"{folder}: not a packed data set ({error}): run `dvc repro`") from None
        out.mkdir(exist_ok=True)
        for number, image in enumerate(found):
            Image.fromarray(image).save(out / f"{_name(*pair, number)}.jpg", quality=88)


def photographs(folder: Path, rows: pd.DataFrame | None) -> list[Photographs]:
    """What the page shows of each data set and backbone that has such images.

    Args:
        folder: where `write_photographs` wrote.
        rows: `reports/tables/hard_images.csv`; None for none.
    """
    found = []
    for pair, block in rows.groupby(["dataset", "backbone"], sort=False) if rows is not None else ():
        pictures = []
        for number, row in enumerate(block.head(SHOWN).itertuples()):
            caption = (
                f"Labelled {row.target}. {row.predicted_runs} of {row.runs} runs say {row.predicted}, with a "
                f"probability of {100 * row.probability:.0f} %."
            )
            if row.predicted_runs < row.wrong_runs:
                caption += f" {row.wrong_runs} runs are wrong."
            pictures.append(inline_picture(folder, _name(*pair, number), Path(row.path).name, caption, CSS_DPI))
        summary = how_many(block)
        title, summary = ", ".join(map(display, pair)), f"{summary[0].upper()}{summary[1:]}."
        found.append(Photographs(title, summary, [picture for picture in pictures if picture]))
    return [each for each in found if each.pictures]


def _name(dataset: str, backbone: str, number: int) -> str:
    return f"{dataset}-{backbone}-{number:02d}"
