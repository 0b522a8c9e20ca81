"""The report as one HTML file that refers to no other: the claims, the tables, the figures and what was run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from delta.report import captions, data_amount, paper
from delta.report.advice import advice
from delta.report.claims import judge_claims
from delta.report.confusion import SHOWN_CLASSES
from delta.report.control_claims import control_claims
from delta.report.gallery import galleries
from delta.report.inline_pictures import Picture, inline_picture
from delta.report.names import display, file_suffix, label
from delta.report.photographs import photographs
from delta.report.plot_files import read_plots
from delta.report.sources import name_with_source, unusual_sources
from delta.report.statistics import format_duration
from delta.report.table import Block, Cell, Column, Row, Table
from delta.report.tables.base import Section
from delta.report.tables.confusions import matrix_caption
from delta.report.tables.differences import difference_table
from delta.report.tables.methods import with_times
from delta.report.tables.registry import page_sections, read_table1, read_tables
from delta.report.verdicts import MARGIN, Claim, Verdict


@dataclass(frozen=True)
class Run:
    """What was run.

    Attributes:
        profile: its name.
        datasets, backbones: each one's parameters by key, named and valued as they are printed.
        methods: their printed names, in the order of the tables.
        seeds: those of the training runs.
        fixed: α and β in the own section of each method of the grid search; None for one that takes the search's.
        scale: of DELTA's penalty; None for a run without DELTA.
        parameters: the text of params.yaml.
        versions: of the packages, by name.
        machine: label and value, such as processor, cores and devices.
        commit: of the pipeline.
        run_times: how many seconds a run was trained here, by data set, backbone and method; those that ran here.
        times: stage, number of its items and their wall time in seconds, summed.
        recommended_in: by data set, how many seconds its recommendation took; those that ran here.
        notes: sentences that say how the run differs from the paper's protocol.
    """

    profile: str
    datasets: Mapping[str, Mapping[str, Any]]
    backbones: Mapping[str, Mapping[str, Any]]
    methods: Sequence[str]
    seeds: Sequence[int]
    fixed: Mapping[str, tuple[float, float] | None]
    scale: str | None
    parameters: str
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    commit: str
    run_times: Mapping[tuple[str, str, str], float]
    times: Sequence[tuple[str, int, float]]
    recommended_in: Mapping[str, float]
    notes: Sequence[str]


def write_page(out: Path, reports: Path, run: Run) -> None:
    """Write the report page.

    Args:
        out: the file to write.
        reports: the folder of `tables`, `plots` and `figures`; of these only Table 1 must be there.
        run: what was run.

    Raises:
        UserError: there is no Table 1, or a table cannot be read.
    """
    tables, table1 = read_tables(reports), read_table1(reports)
    if "table5" in tables:
        tables["table5"] = with_times(tables["table5"], run.run_times)
    differences, sections = tables.get("differences"), page_sections(tables)
    plots = read_plots(reports)
    claims = judge_claims(tables, plots, run.scale)
    sources, best = unusual_sources(table1), advice(reports / "figures", tables, run.recommended_in)
    if best and not any(claim.findings for claim in claims):
        claims = []  # of a user who wants a classifier, and has none of the paper's methods compared
    environment = Environment(
        loader=PackageLoader("delta.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"display": display, "name_with_source": name_with_source, "no_break": _no_break}
    page = environment.get_template("page.html.j2").render(
        run=run,
        advice=best,
        summary=[each.headline for each in best]
        + [captions.headline(differences), _summarize(claims), captions.best_methods(table1)],
        differences=None if differences is None else difference_table(differences),
        forest=None if differences is None else _forest(reports / "figures", differences),
        claims=claims,
        controls=control_claims(differences),
        margin=f"{MARGIN:g}",
        sources=sources,
        sections=sections,
        diagrams={anchor: _diagram(reports / "figures", section) for anchor, section in sections.items()},
        overview=_overview(reports / "figures", table1, tables.get("table2")),
        amounts=_amounts(reports / "figures", plots["data_amount"], differences),
        photographs=photographs(reports / "figures" / "photographs", tables.get("hard_images")),
        pictures=_pictures(reports / "figures", plots, tables, run.fixed, sources),
        galleries=galleries(reports / "figures", plots["gallery"], plots["map_classes"]),
        times=_times_table(run.times) if run.times else None,
    )
    out.write_text(page, encoding="utf-8")


def _summarize(claims: Sequence[Claim]) -> str:
    found = [claim.verdict for claim in claims]
    counts = [f"{found.count(verdict) or 'none'} {verdict}" for verdict in Verdict]
    if not claims:
        return ""
    return f"Of the paper's {len(claims)} claims: {', '.join(counts)}, {found.count(None) or 'none'} not judged."


def _forest(folder: Path, differences: pd.DataFrame) -> Picture | None:
    return inline_picture(folder, "forest", "Differences of the methods' top-1", captions.forest(differences))


def _diagram(folder: Path, section: Section) -> Picture | None:
    diagram = section.diagram
    return diagram and inline_picture(folder, diagram.file, diagram.title, diagram.caption)


def _overview(folder: Path, table1: pd.DataFrame, table2: pd.DataFrame | None) -> Picture | None:
    return inline_picture(folder, "accuracy", "Accuracy of every method", captions.accuracy(table1, table2))


def _amounts(folder: Path, rows: pd.DataFrame | None, differences: pd.DataFrame | None) -> list[Picture]:
    """The figure of data amounts of each backbone."""
    found = []
    for backbone, block in rows.groupby("backbone", sort=False) if rows is not None else ():
        title, caption = f"Accuracy and data amount, {display(backbone)}", data_amount.caption(block, differences)
        found.append(inline_picture(folder, f"data_amount-{backbone}", title, caption))
    return [picture for picture in found if picture]


def _pictures(
    folder: Path,
    plots: Mapping[str, pd.DataFrame | None],
    tables: Mapping[str, pd.DataFrame],
    fixed: Mapping[str, tuple[float, float] | None],
    sources: Mapping[tuple[str, str], str],
) -> dict[str, list[Picture]]:
    """The figures of each data set, in the order of the paper's numbers, then its confusion matrices, backbone by
    backbone."""
    filters, grid, confusions = plots["map_filters"], plots["grid"], tables.get("confusions")

    def of_pair(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
        return table.merge(rows[["dataset", "backbone"]].drop_duplicates())

    def network_maps(rows: pd.DataFrame) -> str:
        return captions.network_maps(rows, of_pair(filters, rows))

    def filter_maps(rows: pd.DataFrame) -> str:
        return captions.filter_maps(rows, of_pair(filters, rows))

    def matrices(rows: pd.DataFrame) -> str:
        return matrix_caption(rows, None if confusions is None else of_pair(confusions, rows), SHOWN_CLASSES)

    # Each kind's file name before and behind the data set and the backbone, its content, its data and its caption.
    kinds: list[tuple[str, str, str, pd.DataFrame | None, Callable[[pd.DataFrame], str]]] = [
        ("figure1", "", "what the networks look at", plots["activation_maps"], network_maps),
        ("figure3", "", "learning curves", plots["learning_curves"], captions.learning_curves),
    ]
    for method, pair in fixed.items() if grid is not None else ():
        caption, rows = partial(captions.grid_search, fixed=pair), grid[grid["method"] == method]
        kinds.append(("figure4", file_suffix(method), f"grid search for {label(method)}", rows, caption))
    distances, little = "distances of the filters from their starting point", "filters on which the source network"
    kinds += [
        ("figure5", "", distances, plots["filter_shares"], captions.filter_distances),
        ("figure6", "", f"{little} activates little", plots["activation_maps"], filter_maps),
        ("confusion", "", "which classes are taken for which", tables.get("classes"), matrices),
    ]
    pictures: dict[str, list[Picture]] = {}
    for prefix, suffix, content, frame, caption in kinds:
        if frame is None:
            continue
        for (dataset, backbone), rows in frame.groupby(["dataset", "backbone"], sort=False):
            where = f"{name_with_source(dataset, sources.get((dataset, backbone)))}, {display(backbone)}"
            title = f"{_figure(prefix, dataset)}: {content}, {where}"
            if picture := inline_picture(folder, f"{prefix}-{dataset}-{backbone}{suffix}", title, caption(rows)):
                pictures.setdefault(dataset, []).append(picture)
    return pictures


def _figure(prefix: str, dataset: str) -> str:
    """What a kind of figure is called."""
    if prefix == "figure6":
        return paper.FILTER_FIGURES.get(dataset, "Figures 6 and 7")
    return "Confusion matrices" if prefix == "confusion" else prefix.replace("figure", "Figure ")


def _times_table(times: Sequence[tuple[str, int, float]]) -> Table:
    """The stages' wall times, with a bar for each."""
    longest = max(seconds for _, _, seconds in times)
    rows = [
        Row(
            [
                Cell(stage),
                Cell(f"{items:,}", items),
                Cell(format_duration(seconds), seconds),
                Cell(value=100 * seconds / longest if longest else 0),
            ]
        )
        for stage, items, seconds in times
    ]
    columns = [Column("Stage"), Column("Items", "number"), Column("Wall time", "number"), Column("Bar", "bar")]
    return Table("Wall time", "All items of a stage together.", [Block(columns, rows)])


def _no_break(text: str) -> str:
    """The text with no line break between a number and its unit, or around an equals sign or an arrow."""
    for loose in (" %", " = ", " → "):
        text = text.replace(loose, loose.replace(" ", "\N{NO-BREAK SPACE}"))
    return text
