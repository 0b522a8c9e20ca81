"""The tables of a data set's images and parts: writing, reading, and errors of damaged files."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from delta.data.listing import read_images, read_parts, write_images, write_parts
from delta.io.errors import UserError

IMAGES = pd.DataFrame({"path": ["a/1.jpg", "b, c/é.png", "NA"], "label": ["007", "NA", ""], "split": "train"})
PARTS = pd.DataFrame(
    {
        "path": ["1.jpg", "1.jpg", "2.jpg"],
        "part": ["left eye", "None", "wing"],
        "x": [0.1, 1 / 3, 250.7],
        "y": [0.0, 2e-9, 99.0],
        "visible": [False, True, True],
    }
)


@pytest.mark.parametrize("columns", [["path", "label"], ["path", "label", "split"]])
def test_images_are_read_as_written(columns, tmp_path):
    """Labels may look like numbers or missing values. The column `split` is optional."""
    write_images(tmp_path, IMAGES[columns])
    pd.testing.assert_frame_equal(read_images(tmp_path), IMAGES[columns], check_exact=True)


def test_parts_are_read_as_written(tmp_path):
    write_parts(tmp_path, PARTS)
    pd.testing.assert_frame_equal(read_parts(tmp_path), PARTS, check_exact=True)


@pytest.mark.parametrize(
    ("read", "name", "text", "message"),
    [
        (read_images, "images.csv", None, "No such file"),
        (read_images, "images.csv", "", "No columns"),
        (read_images, "images.csv", "path,class\na,b\n", "no column label"),
        (read_parts, "parts.csv", None, "No such file"),
        (read_parts, "parts.csv", "path,part,x,y,visible\na,b,left,2,True\n", "could not convert"),
        (read_parts, "parts.csv", "path,part,x,y,visible\na,b,1,2,maybe\n", "cannot safely convert|maybe"),
        (read_parts, "parts.csv", "path,part,x\na,b,1\n", "no column y, visible"),
    ],
)
def test_missing_and_damaged_tables_are_reported(read, name, text, message, tmp_path):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=f"^{re.escape(str(tmp_path / name))}: not readable ") as error:
        read(tmp_path)
    assert re.search(message, str(error.value))
    assert str(error.value).count(name) == 1
    assert str(error.value).endswith("run `dvc repro download`")
