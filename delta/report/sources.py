"""Source networks that the report names because the backbone's name does not tell them."""

from __future__ import annotations

import pandas as pd

from delta.report import paper
from delta.report.names import display


def unusual_sources(table: pd.DataFrame) -> dict[tuple[str, str], str]:
    """The source networks that differ from most of their backbone's, or from the paper's, by data set and backbone.

    Only where the table has a value of the paper's is its source network compared with the paper's.

    Args:
        table: dataset, backbone, source_network (one per data set and backbone), paper_mean (may be NaN).
    """
    found = {}
    for backbone, block in table.groupby("backbone", sort=False):
        rows = block.groupby("dataset", sort=False)[["source_network", "paper_mean"]].first()
        shares = rows["source_network"].value_counts(normalize=True)
        for dataset, source, paper_mean in rows.itertuples():
            differs = pd.notna(paper_mean) and source != paper.source_network(dataset, backbone)
            if differs or shares[source] <= 0.5:
                found[dataset, backbone] = source
    return found


def name_with_source(dataset: str, source: str | None) -> str:
    """A data set's printed name, with its source network in brackets if there is one in `unusual_sources`."""
    return f"{display(dataset)} ({source})" if source else display(dataset)


def source_note(table: pd.DataFrame) -> str:
    """Sentences that explain a table's `unusual_sources`, beginning with a space; empty if it has none."""
    found = unusual_sources(table)
    if not found:
        return ""
    text = (
        " A data set's name is followed by its source network in brackets where the rest of its block or the paper has "
        "another one."
    )
    pairs = table.loc[table["paper_mean"].notna(), ["dataset", "backbone"]].itertuples(index=False, name=None)
    if set(found).intersection(pairs):
        text += (
            f" The paper's value beside it is for the block's own network: with {paper.SOURCE_DATA} weights, or for "
            f"{display(paper.SCENE_DATASET)} with {paper.SCENE_SOURCE_DATA} weights, which are not published for that "
            "network."
        )
    return text
