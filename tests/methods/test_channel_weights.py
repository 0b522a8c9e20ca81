"""Files of channel weights and of filter importance."""

from __future__ import annotations

import re

import numpy as np
import pytest

from delta.io.errors import UserError
from delta.methods.channel_weights import (
    read_channel_weights,
    read_filter_table,
    write_channel_weights,
    write_filter_table,
)


def test_channel_weights_are_read_exactly_and_in_order(tmp_path):
    noise = np.random.default_rng(0)
    written = {"late.0": noise.random(4), "early": noise.random(2) * 1e-9, "7": noise.random(1) * 1e9}
    write_channel_weights(tmp_path / "delta.csv", written)
    read = read_channel_weights(tmp_path / "delta.csv")
    assert list(read) == list(written)
    assert all(np.array_equal(read[layer], values) for layer, values in written.items())
    assert (tmp_path / "delta.csv").read_text().splitlines()[0] == "layer,filter,channel_weight"


def test_a_method_without_attention_has_an_empty_table(tmp_path):
    write_channel_weights(tmp_path / "l2.csv", {})
    assert (tmp_path / "l2.csv").read_text() == "layer,filter,channel_weight\n"
    assert read_channel_weights(tmp_path / "l2.csv") == {}


def test_importance_may_be_negative(tmp_path):
    write_filter_table(tmp_path / "importance.csv", {"late": np.array([-1.5, 2.0])}, "importance")
    assert read_filter_table(tmp_path / "importance.csv", "importance")["late"].tolist() == [-1.5, 2.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("", "No columns"),
        ("layer,filter,importance\na,0,1\n", "channel_weight"),
        ("layer,filter,channel_weight\na,0,nan\n", "no finite channel_weight"),
        ("layer,filter,channel_weight\na,0,inf\n", "no finite channel_weight"),
        ("layer,filter,channel_weight\n,0,1\n", "no finite channel_weight"),
        ("layer,filter,channel_weight\na,0,x\n", "could not convert"),
        ("layer,filter,channel_weight\na,1,1\n", "filters are not numbered from 0"),
        ("layer,filter,channel_weight\na,0,1\na,0,1\n", "filters are not numbered from 0"),
    ],
)
def test_an_unreadable_file_is_reported(tmp_path, text, message):
    if text is not None:
        (tmp_path / "delta.csv").write_text(text)
    expected = f"^{re.escape(str(tmp_path / 'delta.csv'))}: not readable \\(.*{message}.*\\): run `dvc repro`$"
    with pytest.raises(UserError, match=expected):
        read_channel_weights(tmp_path / "delta.csv")
