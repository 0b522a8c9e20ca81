"""Every module of tables, found automatically, and what the stages do with all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pandas as pd

from delta.io.errors import UserError
from delta.io.files import atomic_file, atomic_folder
from delta.report import tables
from delta.report.inputs import Inputs
from delta.report.results import read_table
from delta.report.tables import accuracy
from delta.report.tables.base import ReportTables, Section


def report_tables() -> list[ReportTables]:
    """The modules of this folder, in their order on the page.

    Raises:
        UserError: one of them is no module of tables.
    """
    names = [module.name for module in iter_modules(tables.__path__) if module.name not in ("base", "registry")]
    modules = [import_module(f"{tables.__name__}.{name}") for name in names]
    for module in modules:
        if missing := [name for name in ("ORDER", "collect", "show") if not hasattr(module, name)]:
            raise UserError(
                f"{module.__file__}: has no {', '.join(missing)}: add what delta/report/tables/base.py describes, or "
                "remove the file"
            )
    return sorted(modules, key=lambda module: module.ORDER)


def write_tables(reports: Path, inputs: Inputs) -> None:
    """Write every metrics file, `<name>.json`, and every table, `tables/<name>.md`, `.tex` and `.csv`.

    Raises:
        UserError: a run or an analysis's output is missing or unreadable.
    """
    modules = report_tables()
    collected = [module.collect(inputs) for module in modules]
    for found in collected:
        for name, values in found.metrics.items():
            with atomic_file(reports / f"{name}.json") as scratch:
                scratch.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    with atomic_folder(reports / "tables") as out:
        for module, found in zip(modules, collected, strict=True):
            shown = module.show({name: frame for name, frame in found.frames.items() if not frame.empty})
            for name, table in shown.tables.items():
                for suffix, text in (("md", table.markdown()), ("tex", table.latex()), ("csv", table.csv())):
                    (out / f"{name}.{suffix}").write_text(text, encoding="utf-8")


def read_tables(reports: Path) -> dict[str, pd.DataFrame]:
    """The frames of all tables that `write_tables` wrote, by name.

    Raises:
        UserError: a file is no table, or of an older version.
    """
    columns = {name: needed for module in report_tables() for name, needed in getattr(module, "COLUMNS", {}).items()}
    files = sorted((reports / "tables").glob("*.csv"))
    return {file.stem: read_table(file, columns.get(file.stem, ())) for file in files}


def read_table1(reports: Path) -> pd.DataFrame:
    """Table 1, which every report has.

    Args:
        reports: the folder of `tables`.

    Raises:
        UserError: it is missing, empty, no table or of an older version.
    """
    file = reports / "tables" / "table1.csv"
    table = read_table(file, accuracy.COLUMNS["table1"])
    if table is None or table.empty:
        raise UserError(f"{file}: no results there, and the report needs them: run `dvc repro`")
    return table


def page_sections(frames: Mapping[str, pd.DataFrame]) -> dict[str, Section]:
    """The page's sections by their anchors, in order."""
    return {name: section for module in report_tables() for name, section in module.show(frames).sections.items()}
