"""The captions of the figures, computed from their data."""

from __future__ import annotations

import numpy as np
import pandas as pd

from delta.analysis.grid_result import best_cell, cells
from delta.report import paper
from delta.report.differences import difference_mark, find
from delta.report.map_statistics import image_areas, image_correlations
from delta.report.names import display, label, network_label
from delta.report.sources import unusual_sources
from delta.report.statistics import LEAST_SEEDS, format_correlation, format_difference, format_interval


def headline(differences: pd.DataFrame | None) -> str:
    """In a sentence, whether DELTA is more accurate than L2-SP in Table 1; empty where the two were not compared.

    Args:
        differences: `reports/tables/differences.csv`.
    """
    blocks = (
        [] if differences is None else [block for _, block in differences.groupby(["dataset", "backbone"], sort=False)]
    )
    rows = [row for block in blocks if (row := find(block, "table1", "delta", "l2_sp")) is not None]
    if not rows:
        return ""
    if len(rows) == 1:
        return _headline_of_one(rows[0])
    above, below = (
        sum(sign * end > 0 for end in (row[name] for row in rows)) for sign, name in ((1, "low"), (-1, "high"))
    )
    counts = [("more accurate", above), ("less accurate", below)]
    (first, most), (second, fewer) = counts if above >= below else counts[::-1]
    open_ones = len(rows) - most - fewer
    points = [row["difference"] for row in rows]
    return (
        f"DELTA is {first} than L2-SP on {most or 'none'} of {len(rows)} data sets and backbones, {second} on "
        f"{fewer or 'none'}, and not settled on {open_ones or 'none'} (95 % confidence intervals). The differences are "
        f"between {format_difference(min(points))} and {format_difference(max(points))} points, "
        f"{format_difference(sum(points) / len(points))} on average."
    )


def _headline_of_one(row: pd.Series) -> str:
    where, points = f"On {display(row['dataset'])} with {display(row['backbone'])}", row["difference"]
    side = f"{abs(points):.1f} points {'above' if points > 0 else 'below'} L2-SP" if points else "level with L2-SP"
    if pd.isna(row["low"]):
        seeds = int(row["seeds"])
        few = {1: "one seed gives", 2: "two seeds give"}.get(seeds, f"{seeds} seeds give")
        return f"{where} DELTA is {side}; {few} no confidence interval, so which is more accurate is not settled."
    interval = f"95 % confidence interval {format_interval(points, row['low'], row['high']).partition(' ')[2]}"
    if row["low"] > 0 or row["high"] < 0:
        more = "more" if points > 0 else "less"
        return f"{where} DELTA is {abs(points):.1f} points {more} accurate than L2-SP, {interval}."
    return f"{where} DELTA is {side}, {interval}: which is more accurate is not settled."


def forest(differences: pd.DataFrame) -> str:
    """The first figure: DELTA minus each other method in Table 1, its numbers where there is one data set and backbone.

    Args:
        differences: `reports/tables/differences.csv`.
    """
    if differences["low"].isna().all():
        reading = f"Too few seeds for confidence intervals, which take {LEAST_SEEDS}."
    else:
        reading = (
            "95 % confidence intervals over test images and seeds, each for its comparison alone; filled where "
            "p < 0.05 after Holm's correction."
        )
    blocks = [block for _, block in differences.groupby(["dataset", "backbone"], sort=False)]
    parts = []
    for other in dict.fromkeys([*differences["other"], *differences["method"]]):
        rows = [row for block in blocks if (row := find(block, "table1", "delta", other)) is not None]
        if rows and len(blocks) == 1:
            parts.append(f"{rows[0]['other_label']} {format_interval(*rows[0][['difference', 'low', 'high']])}")
        elif rows:
            signs = [difference_mark(row) for row in rows]
            counts = f"{signs.count('above')} above, {signs.count('below')} below, {signs.count('')} not significant"
            parts.append(f"{rows[0]['other_label']} {counts}")
    if not parts:
        return reading
    return f"{reading} DELTA minus {'; '.join(parts)}."


def best_methods(table: pd.DataFrame) -> str:
    """The best method on each data set (all that are equal) with its accuracy and, if there are several, its backbone.

    Where the source network is not the usual one of the backbone, it is named instead.
    """
    several, sources = table["backbone"].nunique() > 1, unusual_sources(table)
    methods = sorted(_best(table, ["dataset"]).groupby("method", sort=False), key=lambda group: -len(group[1]))
    parts = []
    for method, rows in methods:
        places = []
        for row in rows.itertuples():
            network = sources.get((row.dataset, row.backbone), display(row.backbone) if several else None)
            places.append(f"{display(row.dataset)} ({row.mean:.1f} %{f', {network}' if network else ''})")
        parts.append(f"{label(method)} on {_enumerate(places)}")
    return f"The highest mean top-1 accuracy is that of {'; '.join(parts)}."


def accuracy(table1: pd.DataFrame, table2: pd.DataFrame | None) -> str:
    """How often each method is the best; for one data set and backbone the highest and the lowest mean."""
    text = _winners(table1)
    return text if table2 is None else f"{text} With the improved view: {_winners(table2)}"


def learning_curves(rows: pd.DataFrame) -> str:
    """Figure 3 of one data set and backbone: the first and last points of the curves, means over the seeds."""
    parts = []
    for schedule, curves in rows[rows["epoch"] > 0].groupby("schedule", sort=False):
        means = curves.groupby(["epoch", "method"], sort=False)["top1"].mean()
        ends = []
        for epoch in (curves["epoch"].min(), curves["epoch"].max()):
            labelled = [f"{label(method)} {mean:.1f} %" for method, mean in means[epoch].items()]
            ends.append(f"{_enumerate(labelled)} after {_epochs(epoch)}")
        parts.append(f"{schedule}: {', '.join(ends)}")
    return f"Test top-1 under {'; under '.join(parts)}."


def grid_search(rows: pd.DataFrame, fixed: tuple[float, float] | None) -> str:
    """Figure 4 of one data set and backbone: the best cell, the fixed pair, if any, and how many cells failed."""
    table = cells(rows)
    best, failed = best_cell(table), int((table["failed"] > 0).sum())
    if best is None:
        return f"All of the {len(table)} cells diverged."
    text = f"The best cell, α = {best['alpha']:g}, β = {best['beta']:g}, has {best['mean']:.1f} %"
    if fixed is not None:
        text += f"; the fixed pair α = {fixed[0]:g}, β = {fixed[1]:g} {_at_fixed(table, best, fixed)}"
    return f"{text}; {failed or 'none'} of {len(table)} cells diverged."


def _at_fixed(table: pd.DataFrame, best: pd.Series, fixed: tuple[float, float]) -> str:
    here = table[np.isclose(table["alpha"], fixed[0]) & np.isclose(table["beta"], fixed[1])]
    if here.empty:
        return "is not in the grid"
    if here.iloc[0]["failed"]:
        return "diverged"
    if tuple(here.iloc[0][["alpha", "beta"]]) == tuple(best[["alpha", "beta"]]):
        return "is that cell"
    return f"has {here.iloc[0]['mean']:.1f} %, {format_difference(here.iloc[0]['mean'] - best['mean'])}"


def filter_distances(rows: pd.DataFrame) -> str:
    """Figure 5 of one data set and backbone: the share of filters that DELTA takes farther than L2-SP."""
    shares = rows.groupby("stage", sort=False)["share"].mean()
    count = rows[rows["stage"] == "all"]["filters"].iloc[0]
    stages = ", ".join(f"{stage} {share:.0f} %" for stage, share in shares.drop("all").items())
    return (
        f"{shares['all']:.1f} % of the {count:,} filters lie farther from their starting point with DELTA than with "
        f"L2-SP ({stages}); the paper says about {paper.FARTHER_FILTERS} %."
    )


def network_maps(maps: pd.DataFrame, filters: pd.DataFrame) -> str:
    """Figure 1 of one data set and backbone: how the maps are made, how concentrated and how similar they are.

    Args:
        maps, filters: rows of `reports/plots/activation_maps.csv` and `map_filters.csv`.
    """
    whole = maps[maps["map"] == "network"]
    return f"Where {filters['layer'].iloc[0]} is active, averaged over its filters. {_measures(whole)}"


def filter_maps(maps: pd.DataFrame, filters: pd.DataFrame) -> str:
    """Figures 6 and 7 of one data set and backbone: how the filters were chosen, and their maps in numbers.

    Args:
        maps, filters: rows of `reports/plots/activation_maps.csv` and `map_filters.csv`.
    """
    chosen, first = [str(number) for number in filters["filter"]], filters.iloc[0]
    noun, these = ("Filters", f"the {len(chosen)}") if len(chosen) > 1 else ("Filter", "the one")
    return (
        f"{noun} {_enumerate(chosen)}: of the {first['considered']:,} of {first['filters']:,} filters of "
        f"{first['layer']} that the source network activates least, {these} that the four fine-tuned networks together "
        f"activate most. "
        f"{_measures(maps[maps['map'] != 'network'])}"
    )


def _measures(maps: pd.DataFrame) -> str:
    """How concentrated each method's maps are, and how similar DELTA's are to L2-SP's."""
    areas, left_out = image_areas(maps)
    images = maps["path"].nunique()
    text = f"Over {images} {'image' if images == 1 else 'images'}"
    if areas.empty:
        return f"{text} no map has contrast for all networks."
    shares = _enumerate([f"{network_label(method)} {area:.0f} %" for method, area in areas.mean().items()])
    text += f", a map is above half of its range on this share of the image: {shares}{left_out}."
    if len(correlations := image_correlations(maps)):
        means = [f"{format_correlation(mean)} for {network_label(key)}" for key, mean in correlations.mean().items()]
        text += f" The mean correlation with L2-SP's maps is {_enumerate(means)}."
    return text


def _winners(table: pd.DataFrame) -> str:
    best = _best(table, ["dataset", "backbone"])
    pairs = len(table.drop_duplicates(["dataset", "backbone"]))
    if pairs == 1:
        labels, lowest = [label(method) for method in best["method"]], table.loc[table["mean"].idxmin()]
        if len(best) == len(table):
            return f"{_enumerate(labels)} {'has' if len(labels) == 1 else 'have'} {best['mean'].iloc[0]:.1f} %."
        return (
            f"{_enumerate(labels)} {'is' if len(labels) == 1 else 'are'} highest with {best['mean'].iloc[0]:.1f} %, "
            f"{label(lowest['method'])} lowest with {lowest['mean']:.1f} %."
        )
    wins = [f"{label(method)} in {count}" for method, count in best["method"].value_counts().items()]
    return f"Of {pairs} comparisons the highest mean is that of {_enumerate(wins)}."


def _best(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The rows with the largest mean of their group; several if they are equal."""
    return table[table["mean"] == table.groupby(keys)["mean"].transform("max")]


def _epochs(epoch: float) -> str:
    return "one epoch" if epoch == 1 else f"{epoch:.3g} epochs"


def _enumerate(parts: list[str]) -> str:
    """The parts as an enumeration: "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
