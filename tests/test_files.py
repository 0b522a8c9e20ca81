"""Outputs appear whole or not at all."""

from __future__ import annotations

import pytest

from delta.files import whole_file, whole_folder


@pytest.mark.parametrize("older", [True, False])
def test_folder_appears_whole(tmp_path, older):
    path = tmp_path / "a/out"
    if older:
        path.mkdir(parents=True)
        (path / "stale").touch()
    with whole_folder(path) as out:
        (out / "one").write_text("1")
        assert older == path.exists()
    assert [file.name for file in path.iterdir()] == ["one"]
    assert [file.name for file in path.parent.iterdir()] == ["out"]


def test_failing_leaves_nothing_half_written(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "out") as out:
        (out / "one").touch()
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "file") as scratch:
        scratch.write_text("new")
        raise ZeroDivisionError
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"
    with whole_file(tmp_path / "file") as scratch:
        scratch.write_text("new")
    assert (tmp_path / "file").read_text() == "new"
