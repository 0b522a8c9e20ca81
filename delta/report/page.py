"""The report as one HTML file that needs nothing else: the claims, the tables, the figures and what was run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from delta.io.errors import UserError
from delta.report import captions
from delta.report.claims import Claim, judge, no_interval
from delta.report.embedding import Picture, embedded
from delta.report.gallery import shelves
from delta.report.names import display, label
from delta.report.page_tables import detector_section, part_section
from delta.report.results import read_table
from delta.report.sources import exceptions, named, source_note
from delta.report.statistics import REFERENCE, excludes_zero, plus_minus, signed

PLOTS = ("learning_curves", "grid", "filter_shares", "activation_maps", "map_filters", "gallery", "map_classes")
FILTER_FIGURES = {"stanford_dogs_120": "Figure 6", "cub_200_2011": "Figure 7"}  # by the paper's numbers


@dataclass(frozen=True)
class Run:
    """What was run.

    Attributes:
        profile: its name.
        datasets, backbones: each one's parameters by key, named and valued as they are printed.
        methods: keys, in the order of the tables.
        seeds: those of the training runs.
        fixed: DELTA's α and β outside the grid search.
        parameters: all of params.yaml.
        versions: of the packages, by name.
        machine: label and value, such as processor, cores and devices.
        commit: of the pipeline.
        times: stage, items of it and seconds of all of them together.
        notes: sentences that say how the run differs from the paper's protocol.
    """

    profile: str
    datasets: Mapping[str, Mapping[str, Any]]
    backbones: Mapping[str, Mapping[str, Any]]
    methods: Sequence[str]
    seeds: Sequence[int]
    fixed: tuple[float, float]
    parameters: str
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    commit: str
    times: Sequence[tuple[str, int, float]]
    notes: Sequence[str]


@dataclass(frozen=True)
class Row:
    """A row of a table of accuracies: texts to print and numbers to sort by, None where there is nothing."""

    dataset: str
    source: str  # its source network where that must be said
    method: str
    starts: bool  # the first row of its data set
    best: bool  # no larger mean on its data set
    top1: str
    mean: float
    paper: str
    paper_mean: float | None
    change: str
    difference: float | None
    side: str  # "above" or "below" where the interval excludes 0


@dataclass(frozen=True)
class Table:
    """The accuracies of one backbone, with the columns that it has numbers for."""

    backbone: str
    has_paper: bool
    has_difference: bool
    rows: Sequence[Row]


def write_page(out: Path, reports: Path, run: Run) -> None:
    """Write the report page, one HTML file without a single reference to another.

    Args:
        out: the file to write.
        reports: the folder of `tables`, `plots` and `figures`; what is missing there but Table 1 is left out.
        run: what was run.

    Raises:
        UserError: there is no Table 1, or a table cannot be read.
    """
    file = reports / "tables" / "table1.csv"
    table1 = read_table(file)
    if table1 is None or table1.empty:
        raise UserError(f"{file}: no results there, and the report needs them: run `dvc repro`")
    table2, table3, parts, table4, concepts = (
        read_table(reports / "tables" / f"{name}.csv")
        for name in ("table2", "table3", "table3_parts", "table4", "table4_concepts")
    )
    plots = {name: read_table(reports / "plots" / f"{name}.csv") for name in PLOTS}
    tables = {1: table1} if table2 is None else {1: table1, 2: table2}
    curves, grid, shares, maps = (plots[name] for name in PLOTS[:4])
    claims, sources = judge(table1, table2, curves, grid, shares, table3, table4, maps), exceptions(table1)
    insights = [] if table3 is None else [part_section(table3, parts)]
    insights += [] if table4 is None else [detector_section(table4, concepts)]
    environment = Environment(
        loader=PackageLoader("delta.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"display": display, "label": label, "named": named, "duration": _duration, "tied": _tied}
    out.write_text(
        environment.get_template("page.html.j2").render(
            run=run,
            summary=[captions.best_methods(table1), _claims_that_hold(claims)],
            claims=claims,
            sources=sources,
            tables={number: (_legend(table) + source_note(table), _tables(table)) for number, table in tables.items()},
            overview=_overview(reports / "figures", table1, table2),
            insights=insights,
            pictures=_pictures(reports / "figures", plots, run.fixed, sources),
            shelves=shelves(reports / "figures", plots["gallery"], plots["map_classes"]),
            longest=max((seconds for _, _, seconds in run.times), default=0),
        ),
        encoding="utf-8",
    )


def _claims_that_hold(claims: Sequence[Claim]) -> str:
    judged = [claim for claim in claims if claim.judged]
    if not judged:
        return f"This run can judge none of the paper's {len(claims)} claims."
    holding = sum(claim.holds for claim in judged)
    verb = "holds" if holding < 2 else "hold"
    return (
        f"This run can judge {len(judged)} of the paper's {len(claims)} claims: {holding or 'none'} {verb} throughout."
    )


def _tables(table: pd.DataFrame) -> list[Table]:
    sources = exceptions(table)
    return [_table(backbone, rows, sources) for backbone, rows in table.groupby("backbone", sort=False)]


def _table(backbone: str, table: pd.DataFrame, sources: Mapping[tuple[str, str], str]) -> Table:
    rows = []
    for dataset, block in table.groupby("dataset", sort=False):
        for number, row in enumerate(block.itertuples()):
            settled = excludes_zero(row.low, row.high)
            rows.append(
                Row(
                    dataset=dataset,
                    source=sources.get((dataset, backbone), ""),
                    method=row.method,
                    starts=number == 0,
                    best=row.mean == block["mean"].max(),
                    top1=_plus_minus(row.mean, row.std),
                    mean=row.mean,
                    paper=_plus_minus(row.paper_mean, row.paper_std),
                    paper_mean=_number(row.paper_mean),
                    change=_change(row.difference, row.low, row.high),
                    difference=_number(row.difference),
                    side=("above" if row.low > 0 else "below") if settled else "",
                )
            )
    has_paper, has_difference = (bool(table[name].notna().any()) for name in ("paper_mean", "difference"))
    return Table(backbone, has_paper, has_difference, rows)


def _legend(table: pd.DataFrame) -> str:
    seeds = int(table["seeds"].max())
    text = "Top-1 of one seed." if seeds == 1 else f"Mean top-1 ± sample standard deviation over {seeds} seeds."
    if table["difference"].isna().all():
        return f"{text} There is nothing to compare with {label(REFERENCE)}."
    text += f" The difference to {label(REFERENCE)} is paired by seed"
    if table["low"].isna().all():
        return f"{text}; {no_interval(seeds)}."
    return f"{text}, with its 95 % confidence interval, marked ▲ or ▼ where that excludes 0."


def _overview(folder: Path, table1: pd.DataFrame, table2: pd.DataFrame | None) -> Picture | None:
    return embedded(folder, "accuracy", "Accuracy of every method", captions.accuracy(table1, table2))


def _pictures(
    folder: Path,
    plots: Mapping[str, pd.DataFrame | None],
    fixed: tuple[float, float],
    sources: Mapping[tuple[str, str], str],
) -> dict[str, list[Picture]]:
    """The figures of each data set, in the order of the paper's numbers, backbone by backbone."""
    filters = plots["map_filters"]

    def filter_maps(rows: pd.DataFrame) -> str:
        return captions.filter_maps(rows, filters.merge(rows[["dataset", "backbone"]].drop_duplicates()))

    kinds = [
        (1, "what the networks look at", plots["activation_maps"], captions.network_maps),
        (3, "learning curves", plots["learning_curves"], captions.learning_curves),
        (4, "grid search", plots["grid"], lambda rows: captions.grid_search(rows, fixed)),
        (5, "distances of the filters from their starting point", plots["filter_shares"], captions.filter_distances),
        (6, "filters on which the source network activates little", plots["activation_maps"], filter_maps),
    ]
    pictures: dict[str, list[Picture]] = {}
    for number, what, frame, caption in kinds:
        if frame is None:
            continue
        for (dataset, backbone), rows in frame.groupby(["dataset", "backbone"], sort=False):
            pair = f"{named(dataset, sources.get((dataset, backbone)))}, {display(backbone)}"
            figure = FILTER_FIGURES.get(dataset, "Figures 6 and 7") if number == 6 else f"Figure {number}"
            name, title = f"figure{number}-{dataset}-{backbone}", f"{figure}: {what}, {pair}"
            if picture := embedded(folder, name, title, caption(rows)):
                pictures.setdefault(dataset, []).append(picture)
    return pictures


def _plus_minus(mean: float, std: float) -> str:
    return "" if pd.isna(mean) else plus_minus(mean, std)


def _change(difference: float, low: float, high: float) -> str:
    if pd.isna(difference):
        return ""
    return signed(difference) if pd.isna(low) else f"{signed(difference)} [{signed(low)}, {signed(high)}]"


def _number(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


def _tied(text: str) -> str:
    """The text with no line break between a number and what belongs to it."""
    for loose in (" %", " = ", " → "):
        text = text.replace(loose, loose.replace(" ", "\N{NO-BREAK SPACE}"))
    return text


def _duration(seconds: float) -> str:
    """A wall time in its two largest units: "4.2 s", "3 min 12 s", "1 h 05 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02d} min" if hours else f"{minutes} min {rest:02d} s"
