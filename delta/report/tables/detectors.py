"""Table 4: which concepts a network's units detect (network dissection)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from delta.report import paper
from delta.report.inputs import Inputs
from delta.report.names import concept, display
from delta.report.results import KEYS, Metrics, mean_and_std, nested_metrics, per_seed
from delta.report.seed_differences import DIFFERENCE, delta_minus_others
from delta.report.sources import source_note, unusual_sources
from delta.report.statistics import format_count
from delta.report.table import Block, Cell, Column, Row, Table, number_cell
from delta.report.tables.base import Collected, Section, Shown

ORDER = 4

COUNTED = {"object": "objects", "scene": "scenes", "part": "parts", "texture": "textures", "color": "colors"}
PRINTED = [*COUNTED.values(), "sum", "detecting_units"]  # the paper has no materials, so they are in the CSV alone
METRICS = [*COUNTED.values(), "materials", "sum", "detecting_units"]
MEANS = ["mean", "std", "seeds"]
COLUMNS = {
    "table4": [*KEYS, "method_label", "source_network", "metric", *MEANS, "paper_mean", *DIFFERENCE],
    "table4_concepts": [*KEYS, "method_label", "label", "category", "unit", "iou", "units"],
}
SHOWN_CONCEPTS = 10
DETECTS = 0.04  # as in delta.analysis.dissection, which the report does not import: it takes PyTorch
DEFINITION = (
    "Distinct concepts that at least one unit detects, by category, their sum, and how many units detect a concept; a "
    f"unit detects its best concept where their IoU is above {DETECTS}."
)
BEST_CONCEPTS = f"The {SHOWN_CONCEPTS} concepts with the highest IoU of a unit, of the first seed."


def collect(inputs: Inputs) -> Collected:
    """The numbers of detected concepts and the best of them, and the metrics `metrics_dissection`."""
    units = read_units(inputs)
    counts = detectors(units)
    return Collected(
        frames={"table4": detector_frame(counts, inputs), "table4_concepts": concept_frame(units, inputs)},
        metrics={"metrics_dissection": detector_metrics(counts)},
    )


def show(frames: Mapping[str, pd.DataFrame]) -> Shown:
    """Table 4, and the concepts that each network detects best."""
    if "table4" not in frames:
        return Shown({})
    tables = {"table4": detector_table(frames["table4"])}
    details = None
    if "table4_concepts" in frames:
        details = tables["table4_concepts"] = concept_table(frames["table4_concepts"])
    return Shown(tables, {"table4": Section("Table 4", tables["table4"], details, BEST_CONCEPTS)})


def read_units(inputs: Inputs) -> pd.DataFrame:
    """Every unit with its best concept: dataset, backbone, method, seed, unit, label, category, iou, detects.

    Raises:
        UserError: a dissection is missing or unreadable.
    """
    columns = ["unit", "label", "category", "iou", "detects"]
    units = inputs.read("dissection", "dissection/{method}/{seed}/units.csv", columns)
    return units.astype({"detects": bool})


def detectors(units: pd.DataFrame) -> pd.DataFrame:
    """How many concepts are detected, run by run: dataset, backbone, method, seed and a column for each of METRICS.

    Args:
        units: see `read_units`.
    """
    rows = []
    for keys, run in units.groupby([*KEYS, "seed"], sort=False):
        found = run[run["detects"]]
        categories = found.drop_duplicates(["category", "label"])["category"].value_counts()
        counts = [int(categories.get(category, 0)) for category in COUNTED]
        rows.append((*keys, *counts, int(categories.get("material", 0)), sum(counts), len(found)))
    return pd.DataFrame(rows, columns=[*KEYS, "seed", *METRICS])


def detector_metrics(counts: pd.DataFrame) -> Metrics:
    """By data set, backbone and method: unique_detectors_mean, unique_detectors_std (not for one seed),
    detecting_units_mean, and per_seed, the unique detectors.

    Args:
        counts: see `detectors`.
    """

    def entry(rows: pd.DataFrame) -> dict[str, Any]:
        rows = rows.set_index("seed")
        units = {"detecting_units_mean": round(rows["detecting_units"].mean(), 4)}
        return mean_and_std("unique_detectors", rows["sum"]) | units | {"per_seed": per_seed(rows["sum"])}

    return nested_metrics(counts, entry)


def detector_frame(counts: pd.DataFrame, inputs: Inputs) -> pd.DataFrame:
    """One row per data set, backbone, method and metric, one of METRICS: method_label, source_network, mean, std (NaN
    for one seed), seeds, paper_mean (NaN where the paper has none), and DELTA's difference to it, see
    `delta_minus_others`.

    Args:
        counts: see `detectors`.
    """
    long = counts.melt([*KEYS, "seed"], METRICS, "metric").astype({"metric": pd.CategoricalDtype(METRICS)})
    groups = long.groupby([*KEYS, "metric"], sort=False, observed=True)["value"]
    summary = groups.agg(mean="mean", std="std", seeds="size").reset_index()
    # `melt` goes metric by metric; a stable sort by each key's first place brings a run's metrics together.
    places = {key: {value: place for place, value in enumerate(counts[key].unique())} for key in KEYS}
    summary = summary.sort_values(KEYS, key=lambda column: column.map(places[column.name]), kind="stable")
    numbers = paper.numbers(4)[[*KEYS, "metric", "mean"]].rename(columns={"mean": "paper_mean"})
    numbers["metric"] = numbers["metric"].str.removeprefix("unique_detectors_")
    summary = summary.astype({"metric": str}).merge(numbers, how="left", on=[*KEYS, "metric"])
    differences = delta_minus_others(long.astype({"metric": str}), by=["metric"])
    summary = summary.merge(differences, how="left", on=[*KEYS, "metric"])
    summary = summary.merge(inputs.sources, how="left", on=KEYS[:2])
    summary["method_label"] = summary["method"].map(inputs.network_labels)
    return summary[COLUMNS["table4"]]


def concept_frame(units: pd.DataFrame, inputs: Inputs) -> pd.DataFrame:
    """The concepts that the first seed's units detect best, SHOWN_CONCEPTS per network, best first: dataset, backbone,
    method, method_label, label, category, unit (the best), iou (of that unit), units (how many detect the concept).

    Args:
        units: see `read_units`.
    """
    found = units[units["detects"] & (units["seed"] == units.groupby(KEYS)["seed"].transform("first"))]
    ranked = found.sort_values(["iou", "label", "unit"], ascending=[False, True, True], kind="stable")
    concepts = ranked.groupby([*KEYS, "label", "category"], sort=False)
    best = concepts.agg(unit=("unit", "first"), iou=("iou", "first"), units=("unit", "size")).reset_index()
    shown = best.groupby(KEYS, sort=False).head(SHOWN_CONCEPTS)
    rows = units[KEYS].drop_duplicates().merge(shown, on=KEYS)  # in the order of the runs
    rows.insert(len(KEYS), "method_label", rows["method"].map(inputs.network_labels))
    return rows


def detector_table(frame: pd.DataFrame) -> Table:
    """Table 4: one row per data set and method, one block per backbone.

    Args:
        frame: see `detector_frame`.
    """
    headings = [*(category.capitalize() for category in COUNTED.values()), "Sum", "Units"]
    sources, blocks = unusual_sources(frame), []
    for backbone, block in frame.groupby("backbone", sort=False):
        rows = []
        for dataset, group in block.groupby("dataset", sort=False):
            source = sources.get((dataset, backbone), "")
            name = Cell(display(dataset), qualifier=source)
            theirs = paper.source_network(dataset, backbone) if source else ""
            best = group[group["metric"] == "sum"]["mean"].max()
            for number, (label, metrics) in enumerate(group.groupby("method_label", sort=False)):
                cells = [_count(row, best) for row in metrics.set_index("metric").loc[PRINTED].itertuples()]
                rows.append(Row([name, Cell(label), *cells], number == 0, theirs))
        columns = [Column("Data set"), Column("Network"), *(Column(heading, "number") for heading in headings)]
        blocks.append(Block(columns, rows, display(backbone)))
    seeds, legend = int(frame["seeds"].max()), DEFINITION
    legend += f" Mean ± sample standard deviation over {seeds} seeds." if seeds > 1 else ""
    legend += " In brackets the paper's value, where it has one." if frame["paper_mean"].notna().any() else ""
    return Table("Table 4: unique detectors", legend + source_note(frame), blocks, frame)


def concept_table(frame: pd.DataFrame) -> Table:
    """The concepts detected best: one row per network and concept, one block per data set and backbone.

    Args:
        frame: see `concept_frame`.
    """
    texts, numbers = ["Network", "Concept", "Category"], ["Best unit", "IoU", "Units that detect it"]
    columns = [*map(Column, texts), *(Column(heading, "number") for heading in numbers)]
    blocks = []
    for (dataset, backbone), block in frame.groupby(["dataset", "backbone"], sort=False):
        rows = []
        for label, group in block.groupby("method_label", sort=False):
            for number, row in enumerate(group.itertuples()):
                cells = [Cell(label), Cell(concept(row.label)), Cell(row.category)]
                cells += [number_cell(row.unit, 0), number_cell(row.iou, 3), number_cell(row.units, 0)]
                rows.append(Row(cells, starts_group=number == 0))
        blocks.append(Block(columns, rows, f"{display(dataset)}, {display(backbone)}"))
    return Table("Table 4: the concepts detected best", BEST_CONCEPTS, blocks, frame, digits=6)


def _count(row: Any, best_sum: float) -> Cell:
    """A count with the paper's in brackets; the best sum is marked as best."""
    theirs = "" if pd.isna(row.paper_mean) else f"{row.paper_mean:.0f}"
    is_best = row.Index == "sum" and row.mean == best_sum
    return Cell(format_count(row.mean, row.std), row.mean, is_best, paper=theirs)
