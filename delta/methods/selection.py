"""The alpha and beta that a grid search chose for a method."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path

from delta.io.errors import UserError
from delta.methods.base import Method


def write_selection(path: Path, selected: tuple[float, float] | None) -> None:
    """Write the alpha and beta that replace the method's own as JSON, or {} if nothing does."""
    names = ("alpha", "beta")
    content = {} if selected is None else dict(zip(names, selected, strict=True))
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def with_selection(method: Method, path: Path) -> Method:
    """The method with the alpha and beta that `write_selection` wrote, or as it is.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    try:
        selected = json.loads(path.read_text(encoding="utf-8"))
        if selected != {}:
            selected = {name: selected[name] for name in ("alpha", "beta")}
            if not all(0 <= value < inf for value in selected.values()):
                raise ValueError("a value is negative or infinite")
    except OSError as error:
        raise UserError(f"{path}: no selected alpha and beta ({error.strerror}): run `dvc repro`") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: no selected alpha and beta ({error}): run `dvc repro`") from None
    return method.model_copy(update=selected)
