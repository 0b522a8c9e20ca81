"""What replaces a method's own alpha and beta, and which runs are tested: writing, reading, errors of damaged files."""

from __future__ import annotations

import json

import pytest

from delta.io.errors import UserError
from delta.methods.registry import method_class
from delta.methods.selection import Selection

DELTA = method_class("delta")(alpha=7.0, beta=8.0, scale="source")


@pytest.mark.parametrize("pair", [(0.1, 0.0), None])
@pytest.mark.parametrize("test_every_epoch", [False, True])
def test_a_selection_is_read_as_written(pair, test_every_epoch, tmp_path):
    selection = Selection(pair=pair, test_every_epoch=test_every_epoch)
    selection.write(tmp_path / "0.json")
    assert Selection.read(tmp_path / "0.json") == selection
    expected = {"pair": list(pair) if pair else None, "test_every_epoch": test_every_epoch}
    assert json.loads((tmp_path / "0.json").read_text()) == expected


def test_a_selection_replaces_only_alpha_and_beta():
    chosen = Selection(pair=(0.1, 0.0), test_every_epoch=False).applied_to(DELTA)
    assert chosen == DELTA.model_copy(update={"alpha": 0.1, "beta": 0.0})
    assert (chosen.alpha, chosen.beta, chosen.scale) == (0.1, 0.0, "source")
    assert DELTA.alpha == 7


def test_without_a_pair_the_method_is_unchanged():
    assert Selection(pair=None, test_every_epoch=True).applied_to(DELTA) == DELTA


PAIRS = ["[0.1]", "[-1, 1]", "[Infinity, 1]", "[NaN, 1]", '["1", 1]', "[null, 1]", '{"alpha": 0.1, "beta": 1}']


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "[]", "3", "null", "{}", "[" * 99_999, '{"pair": null}', '{"test_every_epoch": true}'),
        *('{"pair": null, "test_every_epoch": 1}', '{"pair": null, "test_every_epoch": true, "seed": 0}'),
        *(f'{{"pair": {pair}, "test_every_epoch": true}}' for pair in PAIRS),
    ],
)
def test_a_missing_or_damaged_selection_is_reported(text, tmp_path):
    if text is not None:
        (tmp_path / "0.json").write_text(text)
    with pytest.raises(UserError, match=r"0.json: no selected alpha and beta \(.+\): run `dvc repro`$") as error:
        Selection.read(tmp_path / "0.json")
    assert "\n" not in str(error.value)
