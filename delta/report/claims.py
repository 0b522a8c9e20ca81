"""The paper's claims, each judged by the numbers of a run."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from delta.report.accuracy_claims import accuracy_claims
from delta.report.interpretability_claims import detector_claims, distance_claims, map_claims, part_claim
from delta.report.training_claims import curve_claims, grid_claims
from delta.report.verdicts import Claim, not_judged


def judge_claims(
    tables: Mapping[str, pd.DataFrame], plots: Mapping[str, pd.DataFrame | None], scale: str | None
) -> list[Claim]:
    """`check_claims` with the files of a report: its tables and its figures' data, each by name."""
    return check_claims(
        differences=tables.get("differences"),
        curves=plots["learning_curves"],
        grid=plots["grid"],
        scale=scale,
        shares=plots["filter_shares"],
        table3=tables.get("table3"),
        table4=tables.get("table4"),
        maps=plots["activation_maps"],
    )


def check_claims(
    differences: pd.DataFrame | None = None,
    curves: pd.DataFrame | None = None,
    grid: pd.DataFrame | None = None,
    scale: str | None = None,
    shares: pd.DataFrame | None = None,
    table3: pd.DataFrame | None = None,
    table4: pd.DataFrame | None = None,
    maps: pd.DataFrame | None = None,
) -> list[Claim]:
    """The claims of the abstract and of sections 4.2 to 4.4, in the order of the paper's tables and figures.

    Args:
        differences, table3, table4: `reports/tables/differences.csv` and so on.
        curves: `reports/plots/learning_curves.csv`.
        grid: `reports/plots/grid.csv`.
        scale: DELTA's `scale` in params.yaml; None for a run without DELTA.
        shares: `reports/plots/filter_shares.csv`.
        maps: `reports/plots/activation_maps.csv`.

    Returns:
        All claims, also those that the run has no numbers for. Any frame may be empty or None.
    """
    return [
        *accuracy_claims(differences),
        *curve_claims(curves),
        *grid_claims(grid, scale),
        *distance_claims(shares),
        part_claim(table3),
        *detector_claims(table4),
        *map_claims(maps),
        not_judged(
            "The source network and the other fine-tuned ones look at flowers and grass instead of the dog.",
            "Section 1.2, Figure 1",
            "no data set says where its images have flowers or grass",
        ),
        not_judged(
            "With attention a large set of pixels is active around the head of the animals.",
            "Section 4.4, Figures 6 and 7",
            "Stanford Dogs does not say where a head is; for birds see Table 3, part by part",
        ),
        not_judged(
            "Starting from the source network's weights accelerates the optimization.",
            "Section 3.1",
            "every method starts from them, so there is nothing to compare with",
        ),
    ]
