"""What replaces a method's own parameters, and which runs are tested: writing, reading, errors of damaged files."""

from __future__ import annotations

import json

import pytest

from delta.io.errors import UserError
from delta.methods.registry import method_class
from delta.methods.selection import Selection

DELTA = method_class("delta")(alpha=7.0, beta=8.0, scale="source")


@pytest.mark.parametrize("values", [{"alpha": 0.1, "beta": 0.0}, {"k": 2, "scale": "sum", "rectify": True}, None])
@pytest.mark.parametrize("test_every_epoch", [False, True])
def test_a_selection_is_read_as_written(values, test_every_epoch, tmp_path):
    selection = Selection(values=values, test_every_epoch=test_every_epoch)
    selection.write(tmp_path / "0.json")
    found = Selection.read(tmp_path / "0.json")
    assert found == selection
    assert values is None or list(map(type, found.values.values())) == list(map(type, values.values()))
    assert json.loads((tmp_path / "0.json").read_text()) == {"values": values, "test_every_epoch": test_every_epoch}


def test_a_selection_replaces_only_what_it_names():
    chosen = Selection(values={"alpha": 0.1, "beta": 0.0}, test_every_epoch=False).applied_to(DELTA)
    assert chosen == DELTA.model_copy(update={"alpha": 0.1, "beta": 0.0})
    assert (chosen.alpha, chosen.beta, chosen.scale) == (0.1, 0.0, "source")
    assert DELTA.alpha == 7
    chosen = Selection(values={"scale": "equation"}, test_every_epoch=False).applied_to(DELTA)
    assert (chosen.alpha, chosen.scale) == (7, "equation")


def test_what_is_chosen_has_nothing_left_to_search():
    method = method_class("mars_sp")(search={"gamma": [1, 2]})
    chosen = Selection(values={"gamma": 2}, test_every_epoch=False).applied_to(method)
    assert chosen == method_class("mars_sp")(gamma=2)


@pytest.mark.parametrize("values", [{"alpha": -1.0}, {"scale": "no"}, {"alpha": "much"}, {"gamma": 1.0}])
def test_a_selection_of_another_method_is_reported(values):
    with pytest.raises(UserError, match=r"^DELTA: other parameters were selected \(.+\): run `dvc repro`$"):
        Selection(values=values, test_every_epoch=False).applied_to(DELTA)


def test_without_values_the_method_is_unchanged():
    assert Selection(values=None, test_every_epoch=True).applied_to(DELTA) == DELTA


VALUES = ["[0.1]", '{"alpha": Infinity}', '{"alpha": NaN}', '{"alpha": null}', '{"alpha": [1]}', "0.1"]


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "[]", "3", "null", "{}", "[" * 99_999, '{"values": null}', '{"test_every_epoch": true}'),
        *('{"values": null, "test_every_epoch": 1}', '{"values": null, "test_every_epoch": true, "seed": 0}'),
        *(f'{{"values": {values}, "test_every_epoch": true}}' for values in VALUES),
    ],
)
def test_a_missing_or_damaged_selection_is_reported(text, tmp_path):
    if text is not None:
        (tmp_path / "0.json").write_text(text)
    with pytest.raises(UserError, match=r"0.json: no selected parameters \(.+\): run `dvc repro`$") as error:
        Selection.read(tmp_path / "0.json")
    assert "\n" not in str(error.value)
