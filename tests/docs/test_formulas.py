"""docs/formulas.md lists every equation, algorithm, table and figure of the paper with an existing function."""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

import pytest

from tests.helpers.clone import ROOT

PAPER = [
    *(f"Equation ({number})" for number in range(1, 10)),
    "Algorithm 1",
    *(f"Table {number}" for number in range(1, 5)),
    *(f"Figure {number}" for number in range(1, 8)),
]


class Row(NamedTuple):
    paper: str
    file: str
    name: str


def rows() -> list[Row]:
    text = (ROOT / "docs/formulas.md").read_text(encoding="utf-8")
    return [Row(*found) for found in re.findall(r"^\| (.+?) \| .+ \| \[(.+?)\]\(\.\./\2\) \| `(.+?)` \|$", text, re.M)]


def defined(file: str) -> set[str]:
    """The functions and classes of a module, and its classes' methods as `Class.method`."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    top = [node for node in tree.body if isinstance(node, kinds)]
    inner = [f"{node.name}.{each.name}" for node in top for each in node.body if isinstance(each, kinds)]
    return {*(node.name for node in top), *inner}


def test_every_row_of_the_tables_is_parsed():
    lines = (ROOT / "docs/formulas.md").read_text(encoding="utf-8").splitlines()
    assert len(rows()) == sum(line.startswith("| ") and not line.startswith(("| paper |", "| --- |")) for line in lines)


@pytest.mark.parametrize("what", PAPER)
def test_every_item_of_the_paper_is_listed(what):
    assert any(row.paper.startswith(what) for row in rows())


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.paper}-{row.name}")
def test_the_function_exists(row):
    assert row.name in defined(row.file)
