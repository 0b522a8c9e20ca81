"""The alpha and beta that replace a method's own: writing, reading, and errors of damaged files."""

from __future__ import annotations

import json

import pytest

from delta.io.errors import UserError
from delta.methods.registry import method_class
from delta.methods.selection import with_selection, write_selection

DELTA = method_class("delta")(alpha=7.0, beta=8.0, scale="source")


def test_a_selection_replaces_only_alpha_and_beta(tmp_path):
    write_selection(tmp_path / "delta.json", (0.1, 0.0))
    chosen = with_selection(DELTA, tmp_path / "delta.json")
    assert chosen == DELTA.model_copy(update={"alpha": 0.1, "beta": 0.0})
    assert (chosen.alpha, chosen.beta, chosen.scale) == (0.1, 0.0, "source")


def test_without_a_selection_the_method_is_unchanged(tmp_path):
    write_selection(tmp_path / "delta.json", None)
    assert json.loads((tmp_path / "delta.json").read_text()) == {}
    assert with_selection(DELTA, tmp_path / "delta.json") == DELTA


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "[]", "3", "null", "[" * 99_999),
        *('{"alpha": 0.1}', '{"alpha": -1, "beta": 1}', '{"alpha": Infinity, "beta": 1}'),
        *('{"alpha": NaN, "beta": 1}', '{"alpha": "1", "beta": 1}', '{"alpha": null, "beta": 1}'),
    ],
)
def test_a_missing_or_damaged_selection_is_reported(text, tmp_path):
    if text is not None:
        (tmp_path / "delta.json").write_text(text)
    with pytest.raises(UserError, match=r"delta.json: no selected alpha and beta \(.+\): run `dvc repro`$"):
        with_selection(DELTA, tmp_path / "delta.json")
