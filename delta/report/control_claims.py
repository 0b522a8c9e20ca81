"""What the paper does not claim but takes for granted, judged by controls that are not in the paper."""

from __future__ import annotations

from functools import partial

import pandas as pd

from delta.report.accuracy_claims import ABOVE, NOT_ABOVE, compare
from delta.report.verdicts import MORE, NO_GAIN, Claim, check_claim, is_empty

SOURCE = "Not the paper's: a control"
CONTROLS = [
    (
        "It matters which filters attention weighs: DELTA is more accurate than with the same weights on other "
        "filters, DELTA(shuffled).",
        ("delta", "delta_shuffled", MORE),
    ),
    (
        "Uneven weights as such do not help: DELTA(shuffled) is not more accurate than DELTA(w/o ATT).",
        ("delta_shuffled", "delta_wo_att", NO_GAIN),
    ),
]


def control_claims(differences: pd.DataFrame | None) -> list[Claim]:
    """The sentences of CONTROLS that the runs can judge; none for the others.

    Args:
        differences: `reports/tables/differences.csv`.
    """
    if is_empty(differences):
        return []
    table1 = differences[differences["comparison"] == "table1"]
    claims = []
    for text, (method, other, rule) in CONTROLS:
        check = partial(compare, comparison="table1", method=method, others=[other], rule=rule)
        claims.append(check_claim(text, SOURCE, ABOVE if rule is MORE else NOT_ABOVE, table1, "", check))
    return [claim for claim in claims if claim.findings]
