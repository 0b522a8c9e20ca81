"""All of the report's figures and their data, as files."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from delta.analysis.map_files import read_maps
from delta.io.errors import UserError
from delta.io.files import atomic_folder
from delta.io.signals import say
from delta.report import figures
from delta.report.best_galleries import write_galleries
from delta.report.confusion_figure import best_confusion, confusion
from delta.report.data_amount_figure import data_amount
from delta.report.fonts import undrawable_letters
from delta.report.forest import draws_differences, forest
from delta.report.inputs import Inputs
from delta.report.map_figures import write_map_pictures
from delta.report.names import file_suffix
from delta.report.photographs import write_photographs
from delta.report.plot_data import PAIR, mean_distances, plot_tables, read_distances, unit_pictures
from delta.report.rank_diagram import rank_diagram
from delta.report.results import KEYS
from delta.report.tables.methods import FIGURE
from delta.report.tables.registry import read_table1, read_tables


def write_figures(reports: Path, inputs: Inputs) -> None:
    """Write the figures' data, `plots/<name>.csv`, then the figures; the tables must be there.

    Raises:
        UserError: Table 1, a run or an analysis's output is missing or unreadable.
    """
    tables = plot_tables(inputs)
    if letters := undrawable_letters(name for each in inputs.predictions for name in each.classes):
        say(f"note: no installed font has {letters[:20]}, so figures have their codes: install one, and run again")
    with atomic_folder(reports / "plots") as out:
        (out / "confusion").mkdir()
        for name, table in tables.items():
            table.round(6).to_csv(out / f"{name}.csv", index=False)

    table1, found = read_table1(reports), read_tables(reports)
    differences = found.get("differences")
    with atomic_folder(reports / "figures") as out:
        if differences is not None and draws_differences(differences):
            figures.save(forest(differences), out, "forest")
        figures.save(figures.accuracy(table1, found.get("table2")), out, "accuracy")
        if diagram := rank_diagram(found["table5"]) if "table5" in found else None:
            figures.save(diagram, out, FIGURE)
        for backbone, rows in tables["data_amount"].groupby("backbone", sort=False) if "data_amount" in tables else ():
            figures.save(data_amount(rows), out, f"data_amount-{backbone}")
        for pair, rows in tables["learning_curves"].groupby(PAIR, sort=False):
            figures.save(figures.learning_curves(rows), out, "-".join(["figure3", *pair]))
        for (dataset, backbone, method), rows in tables["grid"].groupby(KEYS, sort=False):
            name = f"figure4-{dataset}-{backbone}{file_suffix(method)}"
            figures.save(figures.grid_search(rows, inputs.fixed[method]), out, name)
        for pair, rows in mean_distances(read_distances(inputs)).groupby(PAIR, sort=False):
            figures.save(figures.filter_distances(rows), out, "-".join(["figure5", *pair]))
        for each in inputs.predictions:
            figures.save(confusion(each), out, f"confusion-{each.dataset}-{each.backbone}")
        for best in inputs.recommended:
            figures.save(best_confusion(best), out, f"best-{best.dataset}")
        shown = inputs.params.report.photographs
        for dataset, backbone, folder in inputs.outputs("activation_maps", "activation_maps"):
            write_map_pictures(out, read_maps(folder), dataset, backbone, shown)
        if shown:
            _write_photographs(out, inputs, found)


def _write_photographs(out: Path, inputs: Inputs, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write the galleries of photographs: hard images, those of recommended networks, and what units detect."""
    if "hard_images" in tables:
        write_photographs(out / "photographs", tables["hard_images"], inputs.packed)
    packed = {best.dataset: inputs.packed(best.dataset, best.tested.backbone) for best in inputs.recommended}
    write_galleries(out, tables, packed)
    _copy_pictures(unit_pictures(inputs), out / "units")


def _copy_pictures(pictures: list[tuple[Path, str]], out: Path) -> None:
    for original, name in pictures:
        out.mkdir(exist_ok=True)
        try:
            shutil.copyfile(original, out / name)
        except OSError as error:
            raise UserError(f"{original}: no picture ({error.strerror}): run `dvc repro`") from None
