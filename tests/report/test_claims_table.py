"""The verdicts as a table: what the page says, claim by claim."""

from __future__ import annotations

import html
import re

import pandas as pd
import pytest

from delta.report.claims_table import claims_table
from delta.report.verdicts import Claim, Finding, Tally, Verdict
from tests.helpers.report_project import report, write_project

SETTLED = Claim(
    "DELTA is above L2.",
    "Section 1",
    "By the interval.",
    (
        Finding("cub_200_2011", "resnet101", Verdict.SUPPORTED, "+2.0 [+1.0, +3.0]"),
        Finding("mine", "resnet101", Verdict.NOT_SETTLED, "+1.0 [−1.0, +3.0]"),
    ),
    "cats: no L2 in this run",
    Tally(2, 0, 2),
)
SINGLE = Claim("L2 is |bad|.", "Section 2", "By the mean.", SETTLED.findings[1:], "")
UNJUDGED = Claim("It is fast.", "Section 3", "Nothing can.", (), "no times")
CONTROL = Claim("It matters where.", "A control", "By the interval.", SETTLED.findings[:1], "")


def test_a_claim_has_a_row_with_a_line_for_each_finding():
    rows = [line for line in claims_table([SETTLED, SINGLE, UNJUDGED], []).markdown().splitlines() if line[:1] == "|"]
    assert rows[2:] == [
        "| not settled | DELTA is above L2. (Section 1) "
        "| CUB-200-2011, ResNet-101: supported, +2.0 \\[+1.0, +3.0]<br>mine, ResNet-101: not settled, "
        "+1.0 \\[−1.0, +3.0]<br>Not judged: cats: no L2 in this run | 2 of 2 supported |",
        "| not settled | L2 is \\|bad\\|. (Section 2) | +1.0 \\[−1.0, +3.0] |  |",
        "| not judged | It is fast. (Section 3) | no times |  |",
    ]


def test_controls_follow_in_a_table_of_their_own():
    text = claims_table([SETTLED], [CONTROL]).markdown()
    assert text.index("DELTA is above") < text.index("## Controls") < text.index("It matters where.")


def test_a_program_gets_a_row_for_each_finding():
    frame = claims_table([SETTLED, UNJUDGED], [CONTROL]).frame
    assert frame["verdict"].tolist() == ["not settled", "not settled", "not judged", "supported"]
    assert frame["finding"].tolist() == ["supported", "not settled", "", "supported"]
    assert frame["dataset"].tolist() == ["cub_200_2011", "mine", "", "cub_200_2011"]
    assert frame["evidence"].tolist()[2:] == ["no times", "+2.0 [+1.0, +3.0]"]


def test_where_nothing_can_be_judged_there_is_no_claim():
    assert claims_table([UNJUDGED], []).frame.empty


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    return report(write_project(tmp_path_factory.mktemp("claims") / "project"))


def test_the_files_say_what_the_page_says(reports):
    page = html.unescape((reports / "index.html").read_text(encoding="utf-8")).replace("\N{NO-BREAK SPACE}", " ")
    counts = re.search(r"Of the paper's (\d+) claims: (\w+) supported, (\w+) contradicted, (\w+) not settled", page)
    found = pd.read_csv(reports / "claims.csv")
    claims = found.drop_duplicates(["claim", "source"])
    assert len(claims) == int(counts[1])
    for verdict, count in zip(("supported", "contradicted", "not settled"), counts.groups()[1:], strict=True):
        assert (claims["verdict"] == verdict).sum() == (0 if count == "none" else int(count))
    judged = found[found["finding"].notna()]
    assert len(judged) > 10
    assert [evidence for evidence in judged["evidence"] if evidence not in page] == []
    assert all(claim in page for claim in claims["claim"])
    assert (reports / "claims.md").read_text(encoding="utf-8").count("\n| ") == len(claims) + 2
