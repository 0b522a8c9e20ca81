"""The report's first figure: the differences of the methods' top-1 with their confidence intervals."""

from __future__ import annotations

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from delta.analysis.map_files import REFERENCE
from delta.report.differences import IMPROVED_VIEW, PAIR, TABLES, find, is_significant
from delta.report.figure_style import RC, looks, pair_title
from delta.report.verdicts import MARGIN

# Pairs that a claim or a control compares and that are neither to L2-SP nor of DELTA.
CLAIMED = [("l2", "l2_fe"), ("delta_shuffled", "delta_wo_att")]
BAND = "#e6e6e6"


@matplotlib.rc_context(RC)
def forest(differences: pd.DataFrame) -> Figure:
    """One panel per data set and backbone, backbones side by side.

    In it, from top to bottom, DELTA minus each other method, L2-SP first, each other method minus L2-SP, and the pairs
    of CLAIMED, within Table 1; the same within Table 2; and each method's Table 2 minus its Table 1.

    A row is marked as its first method is; filled where it is significant after Holm's correction.

    Args:
        differences: see `delta.report.differences.run_differences`.
    """
    blocks = {pair: shown_rows(block) for pair, block in differences.groupby(PAIR, sort=False)}
    datasets, backbones = (list(differences[name].unique()) for name in PAIR)
    heights = [max(len(blocks.get((dataset, backbone), ())) for backbone in backbones) for dataset in datasets]
    figure = Figure(figsize=(0.4 + 5.4 * len(backbones), 0.9 + sum(0.75 + 0.19 * rows for rows in heights)))
    panels = figure.subplots(len(datasets), len(backbones), squeeze=False, height_ratios=[3 + rows for rows in heights])
    styles = looks(dict.fromkeys([*differences["other"], *differences["method"]]))
    for dataset, row in zip(datasets, panels, strict=True):
        for backbone, axes in zip(backbones, row, strict=True):
            if (dataset, backbone) in blocks:
                axes.set_title(pair_title(dataset, backbone))
                _panel(axes, blocks[dataset, backbone], styles)
            else:
                axes.set_visible(False)
    handles = [
        Line2D([], [], color="#444444", marker="o", markerfacecolor=face, linewidth=1, label=text)
        for face, text in (
            ("#444444", "difference, 95 % confidence interval; p < 0.05 (Holm)"),
            ("white", "the same, not significant"),
        )
    ]
    handles.append(Patch(facecolor=BAND, label=f"margin, ±{MARGIN:g} points"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3 if len(backbones) > 1 else 1)
    return figure


def draws_differences(differences: pd.DataFrame) -> bool:
    """Whether `forest` has a row to draw: not of the probe and L2-FE alone, for instance."""
    return any(len(shown_rows(block)) for _, block in differences.groupby(PAIR, sort=False))


def shown_rows(block: pd.DataFrame) -> pd.DataFrame:
    """The differences that are drawn, from top to bottom, of one data set and backbone, with their name: `text`."""
    methods = list(dict.fromkeys([*block["other"], *block["method"]]))
    pairs = [("delta", method) for method in [REFERENCE, *methods] if method != "delta"]
    pairs += [(method, REFERENCE) for method in methods if method != REFERENCE] + CLAIMED
    found = []
    for comparison in TABLES:
        within = "" if comparison == "table1" else " (Table 2)"
        for method, other in dict.fromkeys(pairs):
            if (row := find(block, comparison, method, other)) is not None:
                found.append((row, f"{row['method_label']} − {row['other_label']}{within}"))
    for _, row in block[block["comparison"] == IMPROVED_VIEW].iterrows():
        found.append((row, f"{row['method_label']}: Table 2 − Table 1"))
    return pd.DataFrame([row for row, _ in found], columns=block.columns).assign(text=[text for _, text in found])


def _panel(axes: Axes, rows: pd.DataFrame, styles: dict) -> None:
    axes.axvspan(-MARGIN, MARGIN, color=BAND, linewidth=0, zorder=0)
    axes.axvline(0, color="#444444", linewidth=0.8, zorder=1)
    for place, row in enumerate(rows.itertuples()):
        look = styles[row.method]
        if pd.notna(row.low):
            axes.plot([row.low, row.high], [place, place], color=look.colour, linewidth=1.2)
        face = look.colour if is_significant(row) else "white"
        axes.plot(row.difference, place, look.marker, color=look.colour, markerfacecolor=face, zorder=3)
    for place in range(1, len(rows)):
        if rows["comparison"].iloc[place] != rows["comparison"].iloc[place - 1]:
            axes.axhline(place - 0.5, color="#888888", linewidth=0.6)
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="difference of top-1 on the test images (points)")
    axes.set_yticks(range(len(rows)), list(rows["text"]))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
