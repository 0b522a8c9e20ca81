"""Find the project's own modules that a file imports."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("delta", "stages", "cluster", "benchmarks", "studies")


def imports(file: Path) -> set[Path]:
    """The project's own files that a file imports anywhere: modules, and packages whose `__init__` has code."""
    found: set[Path] = set()
    for node in ast.walk(_parsed(file)):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] in PACKAGES:
                place = ROOT.joinpath(*parts)
                found |= {place.with_suffix(".py")} if place.with_suffix(".py").is_file() else set()
                # Importing a.b.c also runs a/__init__.py and a/b/__init__.py.
                inits = [ROOT.joinpath(*parts[:count], "__init__.py") for count in range(1, len(parts) + 1)]
                found |= {init for init in inits if init.is_file() and has_code(init)}
    return found - {file}


def closure(file: Path, leave_out: Callable[[Path], bool]) -> set[Path]:
    """The project's files that a file imports, directly or indirectly, except `leave_out` and what only they import."""
    seen: set[Path] = set()
    waiting = [file]
    while waiting:
        new = {found for found in imports(waiting.pop()) - seen - {file} if not leave_out(found)}
        seen |= new
        waiting += new
    return seen


def has_code(file: Path) -> bool:
    """Whether a file has more than a docstring."""
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in _parsed(file).body)


def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))
