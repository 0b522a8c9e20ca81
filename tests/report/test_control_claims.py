"""The controls: judged where their runs exist, and shown apart from the paper's claims."""

from __future__ import annotations

import html
import re

import pandas as pd
import pytest
import yaml

from delta.report.control_claims import control_claims
from delta.report.forest import shown_rows
from delta.report.verdicts import Verdict
from tests.helpers.report_project import report, write_project, write_run
from tests.report.test_claims import differences

SUPPORTED, CONTRADICTED, NOT_SETTLED = Verdict


@pytest.mark.parametrize(
    ("delta", "shuffled", "verdicts"),
    [
        (78, 76, [SUPPORTED, SUPPORTED]),
        (76, 76, [NOT_SETTLED, SUPPORTED]),
        (78, 79, [CONTRADICTED, CONTRADICTED]),
        (78, 76.5, [SUPPORTED, NOT_SETTLED]),
    ],
)
def test_they_are_judged_by_the_interval(delta, shuffled, verdicts):
    rows = differences({"delta_wo_att": 76, "delta": delta, "delta_shuffled": shuffled})
    claims = control_claims(rows)
    assert [claim.findings[0].verdict for claim in claims] == verdicts
    assert claims[0].findings[0].evidence.startswith("DELTA minus DELTA(shuffled) ")
    assert claims[1].findings[0].evidence.startswith("DELTA(shuffled) minus DELTA(w/o ATT) ")
    assert {claim.source for claim in claims} == {"Not the paper's: a control"}
    assert {claim.paper for claim in claims} == {None}
    assert "DELTA(shuffled) − DELTA(w/o ATT)" in list(shown_rows(rows)["text"])


def test_several_data_sets_are_judged_together():
    cats = differences({"delta": 78, "delta_shuffled": 70}, dataset="cats")
    dogs = differences({"delta": 78, "delta_shuffled": 77.9}, dataset="dogs")
    assert control_claims(cats)[0].verdict is SUPPORTED
    (claim,) = control_claims(pd.concat([cats, dogs]))
    assert (claim.verdict, str(claim.tally)) == (NOT_SETTLED, "1 of 2 supported")
    assert "paper" not in claim.aggregation


def test_without_their_runs_there_are_none():
    assert control_claims(differences({"l2_sp": 70, "delta": 75})) == []
    assert control_claims(None) == []
    assert [claim.text[:6] for claim in control_claims(differences({"delta": 1, "delta_shuffled": 0}))] == ["It mat"]


def test_the_page_shows_them_below_the_papers(tmp_path):
    root = write_project(tmp_path / "project", ["ants"], with_analyses=False)
    before = html.unescape((report(root) / "index.html").read_text(encoding="utf-8"))
    assert "Controls" not in before
    values = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    values["methods"].append("delta_shuffled")
    values["delta_shuffled"] = values["delta"]
    (root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    for seed in (0, 1):
        write_run(root / "runs/ants/resnet101/delta_shuffled" / str(seed), "delta_shuffled", 70.0)
    page = html.unescape((report(root) / "index.html").read_text(encoding="utf-8"))
    assert page.count("Of the paper's 31 claims") == before.count("Of the paper's 31 claims") == 1
    controls = page.partition("<h3>Controls, which are not in the paper</h3>")[2].partition("</section>")[0]
    assert len(re.findall(r'<span class="badge open">', controls)) == 4  # two seeds settle nothing
    assert "DELTA minus DELTA(shuffled) +10.0" in controls
