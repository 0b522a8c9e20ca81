"""Atomic files and folders: an output appears complete or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from delta.io.errors import UserError
from delta.io.files import atomic_file, atomic_folder


@pytest.mark.parametrize("older", [True, False])
def test_a_folder_appears_complete(tmp_path, older):
    path = tmp_path / "a/out"
    if older:
        path.mkdir(parents=True)
        (path / "stale").touch()
    with atomic_folder(path) as out:
        (out / "one").write_text("1")
        assert older == path.exists()
    assert [file.name for file in path.iterdir()] == ["one"]
    assert [file.name for file in path.parent.iterdir()] == ["out"]


def test_an_error_leaves_no_partial_output(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "out") as out:
        (out / "one").touch()
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "file") as scratch:
        scratch.write_text("new")
        raise ZeroDivisionError
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"
    with atomic_file(tmp_path / "file") as scratch:
        scratch.write_text("new")
    assert (tmp_path / "file").read_text() == "new"


@pytest.mark.parametrize("whole", [atomic_file, atomic_folder])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "out: cannot be written, its disk is full: free disk space"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "out: cannot be written, its disk is full"),
        (OSError("encoder error -2 when writing image file"), "out: cannot be written, its disk is full"),
        (OSError(errno.EROFS, "Read-only file system", "x"), r"out: cannot be written \(Read-only file system\)"),
        (
            PermissionError(errno.EACCES, "Permission denied", "new/out"),
            r"out: cannot be written \(Permission denied\)",
        ),
    ],
)
def test_write_errors_name_the_output(tmp_path, monkeypatch, whole, error, message):
    """A full disk is recognised by the system's error, by a library's error that quotes it, or by the free space."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4096))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message), whole(Path("new/out")):
        raise error
    assert not [path for path in tmp_path.rglob("*") if path.name != "new"]


def test_other_errors_are_not_changed(tmp_path):
    missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(tmp_path / "input"))
    for error in (missing, OSError("odd"), ValueError("odd"), UserError("No space left on device")):
        with pytest.raises(type(error)) as raised, atomic_folder(tmp_path / "out"):
            raise error
        assert raised.value is error


def test_a_user_error_is_one_line():
    assert str(UserError("a\nb:  \r\n\tc\x1b[31m\udcff\u2028é")) == "a b: c\\x1b[31m\\udcff é"
