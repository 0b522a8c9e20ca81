"""The pictures that other stages drew, gathered for the report: of units and of activation maps."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from delta.io.errors import UserError
from delta.report.map_figures import class_picture
from delta.report.results import gather

PAIR = ["dataset", "backbone"]


def read_gallery(folders: Iterable[tuple[str, str, str, Path]]) -> pd.DataFrame:
    """The concepts that a network detects best, each with its best unit: dataset, backbone, method, label, category,
    unit, iou, file (the unit's picture by the name that the report gives it) and original, where it lies.

    Args:
        folders: dataset, backbone, method and the folder that the stage dissect left.

    Raises:
        UserError: a gallery is missing or unreadable.
    """
    keys = [*PAIR, "method"]
    files = ((*values, folder, folder / "gallery.csv") for *values, folder in folders)
    rows = gather(files, [*keys, "original"], ["label", "category", "unit", "iou", "file"], "gallery of units")
    return _renamed(rows, keys)


def read_map_tables(folders: Iterable[tuple[str, str, Path]]) -> dict[str, pd.DataFrame]:
    """What the stage measure_activation_maps left, as tables with dataset and backbone by name:

    - activation_maps: label, path, map (`network` or a filter's number), method, area (percent of the map above one
      half), correlation (with L2-SP's map of the same image; NaN where one is constant);
    - map_filters: filter, source_mean, tuned_mean, considered, filters, layer;
    - map_classes: label, path, file (the name of its picture in the report).

    Args:
        folders: dataset, backbone and the folder.

    Raises:
        UserError: a table is missing or unreadable.
    """
    folders = list(folders)

    def table(name: str, columns: list[str]) -> pd.DataFrame:
        files = ((*pair, folder / f"{name}.csv") for *pair, folder in folders)
        return gather(files, PAIR, columns, "activation maps")

    filters = ["filter", "source_mean", "tuned_mean", "considered", "filters", "layer"]
    classes = table("images", ["label", "path"])
    numbers = classes.groupby(PAIR, sort=False).cumcount()
    files = [
        class_picture(*pair, image) for *pair, image in classes[PAIR].assign(image=numbers).itertuples(index=False)
    ]
    return {
        "activation_maps": table("maps", ["label", "path", "map", "method", "area", "correlation"]),
        "map_filters": table("filters", filters),
        "map_classes": classes.assign(file=files),
    }


def copy_pictures(pictures: Iterable[tuple[Path, str]], out: Path) -> None:
    """Copy each picture into the folder `out` under its new name.

    Raises:
        UserError: one is missing.
    """
    for original, name in pictures:
        out.mkdir(exist_ok=True)
        try:
            shutil.copyfile(original, out / name)
        except OSError as error:
            raise UserError(f"{original}: no picture ({error}): run `dvc repro`") from None


def _renamed(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """A picture's name made one of its own among all data sets, backbones and methods."""
    originals = [folder / file for folder, file in zip(rows["original"], rows["file"], strict=True)]
    names = ["-".join(texts) for texts in rows[[*keys, "file"]].itertuples(index=False)]
    return rows.assign(original=originals, file=names)
