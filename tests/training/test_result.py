"""A run's result.json: what is written comes back, and a missing, damaged or older one is named."""

from __future__ import annotations

import json

import pytest

from delta.io.errors import UserError
from delta.training.result import RunResult, TestView

RESULT = RunResult(
    label="DELTA",
    top1=200 / 3,
    alpha=0.01,
    beta=0.0,
    iterations_per_epoch=9,
    source_network="ResNet-101, ImageNet",
    device="cpu",
    classes=["ant", "é"],
    view=TestView(resize=256, crop=224, crops=10),
)


def test_a_result_comes_back_as_it_was_written(tmp_path):
    RESULT.write(tmp_path)
    assert RunResult.read(tmp_path) == RESULT
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8")) == RESULT.model_dump()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"view": None}, "view: "),  # as older versions wrote it
        ({"view": {"resize": 40, "crop": 32}}, "view.crops: "),
        ({"view": {"resize": 40, "crop": 32, "crops": 3}}, "view.crops: "),
        ({"label": None}, "label: "),
        ({"top1": None}, "top1: "),
        ({"top1": "50"}, "top1: "),
        ({"alpha": float("inf")}, "alpha: "),
        ({"iterations_per_epoch": 0}, "iterations_per_epoch: "),
        ({"classes": "ant"}, "classes: "),
        ({"classes": [1, 2]}, "classes.0: "),
    ],
)
def test_a_result_that_lacks_something_is_named(changes, message, tmp_path):
    values = {name: value for name, value in (RESULT.model_dump() | changes).items() if value is not None}
    (tmp_path / "result.json").write_text(json.dumps(values))
    with pytest.raises(UserError) as error:
        RunResult.read(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'result.json'}: no result of a run ({message}")
    assert str(error.value).endswith("): run `dvc repro`")


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"3", b"\xff\xfe", b"{}"])
def test_a_missing_or_damaged_result_is_named(content, tmp_path):
    if content is not None:
        (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(UserError, match=r"result.json: no result of a run \(.+\): run `dvc repro`$"):
        RunResult.read(tmp_path)
