"""What a module of this folder holds, so that the report has its tables without any other change:

    ORDER = 3                                # its place among the others; the paper's tables take their numbers

    def collect(inputs: Inputs) -> Collected:    # from the runs and the analyses' outputs
    def show(frames: Mapping[str, pd.DataFrame]) -> Shown:

    COLUMNS = {"table3": ["dataset", …]}     # optional: what `show` needs of its frames, to name the file that lacks it

The stage `tables` calls `collect` and writes its metrics, then calls `show` with its frames and writes the tables. The
stage `page` has the files alone: it calls `show` with the frames of all tables, read back, for the sections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import pandas as pd

from delta.report.inputs import Inputs
from delta.report.results import Metrics
from delta.report.table import Table


@dataclass(frozen=True)
class Collected:
    """What a module gathers.

    Attributes:
        frames: data frames by name; an empty one makes no table.
        metrics: by file name, without `.json`: values nested data set > backbone > method, for `dvc metrics`. A file is
            written even where it is empty, as dvc.yaml names it.
    """

    frames: Mapping[str, pd.DataFrame]
    metrics: Mapping[str, Metrics] = field(default_factory=dict)


@dataclass(frozen=True)
class Diagram:
    """A figure that belongs to a table.

    Attributes:
        file: its name in reports/figures, without a suffix; where there is no such file, nothing is shown.
        title, caption: what stands below it.
    """

    file: str
    title: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        name: what the page's navigation calls it, such as "Table 3".
        table: what it shows.
        details: a table that opens on demand, under the line `summary`.
        diagram: a figure above the table.
    """

    name: str
    table: Table
    details: Table | None = None
    summary: str = ""
    diagram: Diagram | None = None


@dataclass(frozen=True)
class Shown:
    """What a module makes of its frames.

    Attributes:
        tables: by the name of their frame, which is also their file name in reports/tables.
        sections: by their anchor on the page.
    """

    tables: Mapping[str, Table]
    sections: Mapping[str, Section] = field(default_factory=dict)


class ReportTables(Protocol):
    """A module of this folder."""

    ORDER: float

    def collect(self, inputs: Inputs) -> Collected: ...

    def show(self, frames: Mapping[str, pd.DataFrame]) -> Shown: ...
