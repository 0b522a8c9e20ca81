"""Which data sets start from another source network than their backbone's block of a table makes one think."""

from __future__ import annotations

import pandas as pd

from delta.report.names import display


def paper_source(dataset: str, backbone: str) -> str:
    """The source network of the paper's own values (section 4.1)."""
    return f"{display(backbone)}, {'Places365' if dataset == 'mit_indoors_67' else 'ImageNet'}"


def exceptions(table: pd.DataFrame) -> dict[tuple[str, str], str]:
    """The source networks that a reader must be told, by data set and backbone.

    They are those that most of the backbone's data sets do not have, and those that are not the paper's where a value
    of the paper's stands beside them.

    Args:
        table: dataset, backbone, source_network (one a data set and backbone), paper_mean (may be NaN).
    """
    found = {}
    for backbone, block in table.groupby("backbone", sort=False):
        rows = block.groupby("dataset", sort=False)[["source_network", "paper_mean"]].first()
        shares = rows["source_network"].value_counts(normalize=True)
        for dataset, source, paper in rows.itertuples():
            if shares[source] <= 0.5 or (pd.notna(paper) and source != paper_source(dataset, backbone)):
                found[dataset, backbone] = source
    return found


def named(dataset: str, source: str | None) -> str:
    """A data set's printed name, followed by the source network that `exceptions` has for it, if any."""
    return f"{display(dataset)} ({source})" if source else display(dataset)


def source_note(table: pd.DataFrame) -> str:
    """What a table's `exceptions` mean, in sentences that begin with a space; nothing where it has none."""
    found = exceptions(table)
    if not found:
        return ""
    text = (
        " A data set's name is followed by its source network in brackets where the rest of its block or the paper has "
        "another one."
    )
    pairs = table.loc[table["paper_mean"].notna(), ["dataset", "backbone"]].itertuples(index=False, name=None)
    if set(found).intersection(pairs):
        text += (
            " The paper's value beside it is for the block's own network: with ImageNet weights, or for MIT Indoors 67 "
            "with Places365 weights, which are not published for that network."
        )
    return text
