"""Table 4: which concepts a network's units detect (network dissection)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from delta.report.markup import escaped, formula, latex, markdown
from delta.report.names import concept, display, features
from delta.report.results import gather, nested, over_seeds, per_seed
from delta.report.sources import exceptions, named, paper_source, source_note
from delta.report.statistics import count
from delta.report.tables import paper_numbers

KEYS = ["dataset", "backbone", "method"]
COUNTED = {"object": "objects", "scene": "scenes", "part": "parts", "texture": "textures", "color": "colors"}
PRINTED = [*COUNTED.values(), "sum", "detecting_units"]  # the paper leaves out Broden's materials: in the csv alone
METRICS = [*COUNTED.values(), "materials", "sum", "detecting_units"]
HEADINGS = [metric.capitalize().replace("_", " ") for metric in PRINTED]
SHOWN_CONCEPTS = 10
RULE = (
    "Distinct concepts that at least one unit detects, by category, their sum, and how many units detect one at all; a "
    "unit detects its best concept where their IoU is above 0.04"
)


def read_units(folders: Iterable[tuple[str, str, str, int, Path]]) -> pd.DataFrame:
    """Every unit with its best concept: dataset, backbone, method, seed, unit, label, category, iou, detects.

    Args:
        folders: dataset, backbone, method, seed and the folder that the stage dissect left.

    Raises:
        UserError: a dissection is missing or unreadable.
    """
    files = ((*keys, folder / "units.csv") for *keys, folder in folders)
    units = gather(files, [*KEYS, "seed"], ["unit", "label", "category", "iou", "detects"], "dissection")
    return units.astype({"detects": bool})


def detectors(units: pd.DataFrame) -> pd.DataFrame:
    """How many concepts are detected, run by run: dataset, backbone, method, seed and a column for each of METRICS.

    Args:
        units: see `read_units`.
    """
    rows = []
    for keys, run in units.groupby([*KEYS, "seed"], sort=False):
        found = run[run["detects"]]
        kinds = found.drop_duplicates(["category", "label"])["category"].value_counts()
        counts = [int(kinds.get(category, 0)) for category in COUNTED]
        rows.append((*keys, *counts, int(kinds.get("material", 0)), sum(counts), len(found)))
    return pd.DataFrame(rows, columns=[*KEYS, "seed", *METRICS])


def detector_metrics(counts: pd.DataFrame) -> str:
    """JSON nested data set > backbone > method > unique_detectors_mean, unique_detectors_std (none for one seed),
    detecting_units_mean, and per_seed, the unique detectors.

    Args:
        counts: see `detectors`.
    """

    def entry(rows: pd.DataFrame) -> dict[str, Any]:
        rows = rows.set_index("seed")
        units = {"detecting_units_mean": round(rows["detecting_units"].mean(), 4)}
        return over_seeds("unique_detectors", rows["sum"]) | units | {"per_seed": per_seed(rows["sum"])}

    return nested(counts, entry)


def detector_table(counts: pd.DataFrame, sources: pd.DataFrame) -> dict[str, str]:
    """Table 4 as text by file suffix: md, csv, tex.

    Args:
        counts: see `detectors`.
        sources: dataset, backbone, source_network.

    Returns:
        `md` and `tex` have a row a data set and method, backbone by backbone; `csv` a row a data set, backbone, method
        and metric, one of METRICS: source_network, mean, std (empty for one seed), seeds, paper_mean (empty where the
        paper has none).
    """
    long = counts.melt([*KEYS, "seed"], METRICS, "metric").astype({"metric": pd.CategoricalDtype(METRICS)})
    groups = long.groupby([*KEYS, "metric"], sort=False, observed=True)["value"]
    summary = groups.agg(mean="mean", std="std", seeds="size").reset_index()
    # Melting goes metric by metric; a stable sort by each key's first place brings a run's metrics together.
    places = {key: {value: place for place, value in enumerate(counts[key].unique())} for key in KEYS}
    summary = summary.sort_values(KEYS, key=lambda column: column.map(places[column.name]), kind="stable")
    paper = paper_numbers(4)[[*KEYS, "metric", "mean"]].rename(columns={"mean": "paper_mean"})
    paper["metric"] = paper["metric"].str.removeprefix("unique_detectors_")
    summary = summary.astype({"metric": str}).merge(paper, how="left", on=[*KEYS, "metric"])
    summary = summary.merge(sources.drop_duplicates(["dataset", "backbone"]), how="left", on=KEYS[:2])
    columns = [*KEYS, "source_network", "metric", "mean", "std", "seeds", "paper_mean"]
    csv = summary[columns].round(4).to_csv(index=False)
    return {"md": _markdown(summary), "csv": csv, "tex": _latex(summary)}


def best_concepts(units: pd.DataFrame) -> pd.DataFrame:
    """The concepts that the first seed's units detect best, SHOWN_CONCEPTS a network, best first: dataset, backbone,
    method, label, category, unit (the best), iou (its), units (how many detect the concept).

    Args:
        units: see `read_units`.
    """
    found = units[units["detects"] & (units["seed"] == units.groupby(KEYS)["seed"].transform("first"))]
    ranked = found.sort_values(["iou", "label", "unit"], ascending=[False, True, True], kind="stable")
    concepts = ranked.groupby([*KEYS, "label", "category"], sort=False)
    best = concepts.agg(unit=("unit", "first"), iou=("iou", "first"), units=("unit", "size")).reset_index()
    shown = best.groupby(KEYS, sort=False).head(SHOWN_CONCEPTS)
    return units[KEYS].drop_duplicates().merge(shown, on=KEYS)  # in the order of the runs


def concept_table(units: pd.DataFrame) -> dict[str, str]:
    """`best_concepts` as text by file suffix: md, csv."""
    best = best_concepts(units)
    lines = [
        "# Table 4: the concepts detected best",
        "",
        f"The {SHOWN_CONCEPTS} concepts with the highest IoU of a unit, of the first seed.",
    ]
    for (dataset, backbone, method), rows in best.groupby(KEYS, sort=False):
        cells = [
            [concept(row.label), row.category, str(row.unit), f"{row.iou:.3f}", str(row.units)]
            for row in rows.itertuples()
        ]
        lines += ["", f"## {display(dataset)}, {display(backbone)}, {features(method)}", ""]
        lines += markdown(["Concept", "Category", "Best unit", "IoU", "Units that detect it"], cells, texts=2)
    return {"md": "\n".join([*lines, ""]), "csv": best.round(6).to_csv(index=False)}


def detector_legend(summary: pd.DataFrame) -> str:
    """What stands in Table 4.

    Args:
        summary: the table's csv.
    """
    seeds = int(summary["seeds"].max())
    return f"{RULE}." + (f" Mean ± sample standard deviation over {seeds} seeds." if seeds > 1 else "")


def _markdown(summary: pd.DataFrame) -> str:
    sources, legend = exceptions(summary), detector_legend(summary)
    if summary["paper_mean"].notna().any():
        legend += " In brackets the paper's value, where it has one."
    lines = ["# Table 4. Unique detectors", "", legend + source_note(summary)]
    for backbone, block in summary.groupby("backbone", sort=False):
        rows = []
        for (dataset, method), row in block.groupby(["dataset", "method"], sort=False):
            cells = [
                count(cell.mean, cell.std) + ("" if pd.isna(cell.paper_mean) else f" ({cell.paper_mean:.0f})")
                for cell in row.set_index("metric").loc[PRINTED].itertuples()
            ]
            rows.append([named(dataset, sources.get((dataset, backbone))), features(method), *cells])
        lines += ["", *markdown([display(backbone), "Network", *HEADINGS], rows, texts=2)]
    return "\n".join([*lines, ""])


def _latex(summary: pd.DataFrame) -> str:
    sources, blocks = exceptions(summary), []
    for backbone, block in summary.groupby("backbone", sort=False):
        rows = []
        for (dataset, method), row in block.groupby(["dataset", "method"], sort=False):
            source, metrics = sources.get((dataset, backbone)), row.set_index("metric").loc[PRINTED]
            cells = [formula(count(cell.mean, cell.std)) for cell in metrics.itertuples()]
            rows.append([escaped(named(dataset, source)), features(method), *cells])
            if metrics["paper_mean"].notna().any():
                theirs = f" ({paper_source(dataset, backbone)})" if source else ""
                values = ["" if pd.isna(value) else f"{value:.0f}" for value in metrics["paper_mean"]]
                rows.append([rf"\quad paper{theirs}", "", *map(formula, values)])
        blocks.append(([escaped(display(backbone)), "Network", *HEADINGS], rows))
    return latex(blocks, texts=2)
