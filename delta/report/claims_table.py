"""The verdicts as a table, which unlike the page can be compared between commits and shown elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from delta.io.files import atomic_file
from delta.report.claims import judge_claims
from delta.report.control_claims import control_claims
from delta.report.names import display
from delta.report.plot_files import read_plots
from delta.report.table import Block, Cell, Column, Row, Table
from delta.report.tables.registry import read_tables
from delta.report.verdicts import Claim, Finding

NOT_JUDGED = "not judged"

TITLE = "Claims"
LEGEND = (
    "The paper's claims by this run's numbers: supported where all of a 95 % confidence interval agrees with a claim, "
    "contradicted where all of it disagrees, not settled elsewhere. Last, how the same rule judges the paper's own "
    "tables. The rules stand on the page, index.html."
)
HEADINGS = [Column("Verdict"), Column("Claim"), Column("Here"), Column("The paper")]
COLUMNS = ["claim", "source", "verdict", "dataset", "backbone", "finding", "evidence", "paper"]


def write_claims(reports: Path, scale: str | None) -> None:
    """Write `claims.md` and `claims.csv`; without a row where nothing could be judged.

    Args:
        reports: the folder of `tables` and `plots`.
        scale: of DELTA's penalty; None for a run without DELTA.

    Raises:
        UserError: a table or a figure's data cannot be read.
    """
    tables = read_tables(reports)
    table = claims_table(judge_claims(tables, read_plots(reports), scale), control_claims(tables.get("differences")))
    for suffix, text in (("md", table.markdown()), ("csv", table.csv())):
        with atomic_file(reports / f"claims.{suffix}") as scratch:
            scratch.write_text(text, encoding="utf-8")


def claims_table(claims: Sequence[Claim], controls: Sequence[Claim]) -> Table:
    """One row per claim, one block for the paper's and one for the controls; its frame has one row per finding.

    Args:
        claims: the paper's; if nothing is found on any of them, the table has none of them.
        controls: what the paper takes for granted.
    """
    judged = claims if any(claim.findings for claim in claims) else []
    groups = (("", judged), ("Controls", controls))
    blocks = [Block(HEADINGS, [_row(claim) for claim in group], title) for title, group in groups if group]
    rows = [row for claim in (*judged, *controls) for row in _records(claim)]
    return Table(TITLE, LEGEND, blocks, pd.DataFrame(rows, columns=COLUMNS))


def _verdict(claim: Claim) -> str:
    return claim.verdict or NOT_JUDGED


def _row(claim: Claim) -> Row:
    return Row([Cell(_verdict(claim)), Cell(f"{claim.text} ({claim.source})"), _here(claim), Cell(claim.paper_count)])


def _here(claim: Claim) -> Cell:
    """A line for each finding, and one for what could not be judged."""
    lines = [_line(finding, named=len(claim.findings) > 1) for finding in claim.findings]
    if claim.missing:
        lines.append(f"Not judged: {claim.missing}" if lines else claim.missing)
    cell = None
    for line in reversed(lines):
        cell = Cell(line, below=cell)
    return cell or Cell()


def _line(finding: Finding, named: bool) -> str:
    where = f"{display(finding.dataset)}, {display(finding.backbone)}: {finding.verdict}, " if named else ""
    return where + finding.evidence


def _records(claim: Claim) -> list[list[str]]:
    about, paper = [claim.text, claim.source, str(_verdict(claim))], claim.paper_count
    if not claim.findings:
        return [[*about, "", "", "", claim.missing, paper]]
    return [[*about, each.dataset, each.backbone, str(each.verdict), each.evidence, paper] for each in claim.findings]
