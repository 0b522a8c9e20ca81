"""The rooms of the house: how many there are, and that imports go down."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.imports import ROOT, imports

# From the ground up: a room may import those before it, and itself.
ROOMS = (
    "io",
    "networks",
    "sources",
    "data",
    "datasets",
    "methods",
    "attention",
    "training",
    "analysis",
    "report",
    "predict",
    "export",
)
FILES = sorted((ROOT / "delta").rglob("*.py"))


def room(file: Path) -> str:
    return file.relative_to(ROOT / "delta").parts[0].removesuffix(".py")


def test_the_library_has_at_most_twelve_entries():
    entries = {entry.stem for entry in (ROOT / "delta").iterdir() if not entry.name.startswith("__")}
    assert entries == set(ROOMS)
    assert len(ROOMS) <= 12


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES])
def test_no_import_goes_up(file):
    if file == ROOT / "delta/__init__.py":
        assert not imports(file)
        return
    allowed = ROOMS[: ROOMS.index(room(file)) + 1]
    for imported in imports(file):
        assert imported.is_relative_to(ROOT / "delta"), f"imports {imported.relative_to(ROOT)}"
        assert room(imported) in allowed, f"imports {imported.relative_to(ROOT)}, which lies above it"


def test_no_module_imports_itself_in_a_circle():
    graph = {file: imports(file) for file in FILES}
    while leaves := [file for file, others in graph.items() if not others & graph.keys()]:
        for leaf in leaves:
            del graph[leaf]
    assert not graph, f"a circle among {', '.join(str(file.relative_to(ROOT)) for file in graph)}"


def test_the_cluster_needs_nothing_of_delta_but_its_ground():
    for file in (ROOT / "cluster").glob("*.py"):
        for imported in imports(file):
            assert imported.is_relative_to(ROOT / "cluster") or imported.is_relative_to(ROOT / "delta/io")
