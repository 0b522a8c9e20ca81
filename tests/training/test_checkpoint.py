"""Checkpoints: which computation they belong to, damaged files, and when one is due."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from delta.io.signals import uninterrupted
from delta.methods import base
from delta.training import checkpoint as checkpoints
from delta.training.checkpoint import Checkpoint, digest

CPU = torch.device("cpu")
STATE = {"weights": torch.arange(1000.0), "rows": [(0.1, None, "problem")], "count": 3}


@pytest.fixture
def checkpoint(tmp_path) -> Checkpoint:
    saved = Checkpoint(tmp_path / "folder" / "run.pt", 10)
    assert saved.load(CPU, "images", parameters=1) is None
    assert saved.save(STATE)
    return saved


def loaded(checkpoint: Checkpoint, data="images", **parts):
    return Checkpoint(checkpoint.path, 10).load(CPU, data, **({"parameters": 1} | parts))


def test_a_checkpoint_is_loaded_as_saved(checkpoint):
    state = loaded(checkpoint)
    assert torch.equal(state.pop("weights"), STATE["weights"])
    assert state == {"rows": STATE["rows"], "count": 3}
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["run.pt"]
    checkpoint.remove()
    assert loaded(checkpoint) is None


def test_a_checkpoint_of_another_computation_is_ignored(checkpoint, tmp_path, monkeypatch, capfd):
    def ignored(reason: str, *arguments, **parts) -> None:
        assert loaded(checkpoint, *arguments, **parts) is None
        said = f"{checkpoint.path}: checkpoint ignored, as {reason}: starting from the beginning\n"
        assert capfd.readouterr().err == said

    ignored("it belongs to other parameters", parameters=2)
    ignored("it belongs to other data", "other images")
    ignored("it belongs to other parameters, data", "other images", parameters=2)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    ignored("it belongs to other machine or versions")
    torch.set_num_threads(threads)
    changed = tmp_path / "base.py"
    changed.write_text(Path(base.__file__).read_text() + "# a comment\n")
    monkeypatch.setattr(base, "__file__", str(changed))
    ignored("it belongs to other code")
    monkeypatch.undo()
    assert loaded(checkpoint)


def test_a_checkpoint_with_a_damaged_byte_is_ignored(checkpoint, capfd):
    content = checkpoint.path.read_bytes()
    places = [*range(0, 1200, 7), *range(1200, len(content), len(content) // 50), len(content) - 1]
    damaged = [content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :] for place in places]
    damaged += [content[:place] for place in (0, 10, content.index(b"\n"), len(content) - 1)] + [
        content + b" ",
        b"[1]\n",
    ]
    for each in damaged:
        checkpoint.path.write_bytes(each)
        assert loaded(checkpoint) is None
        assert "run.pt: checkpoint ignored, as it" in capfd.readouterr().err
    checkpoint.path.write_bytes(content)
    assert loaded(checkpoint)


def test_loading_executes_no_code(checkpoint, tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "touched",)

    checkpoint.save({"weights": Evil()})
    with pytest.raises(Exception, match="weights_only"):
        loaded(checkpoint)
    assert not (tmp_path / "touched").exists()


def test_the_interval_ignores_changes_of_the_system_clock(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    checkpoint = Checkpoint(tmp_path / "run.pt", 10)
    checkpoint.load(CPU, None)
    for jump in (-1e9, 1e9):
        monkeypatch.setattr(time, "time", lambda jump=jump: jump)
        assert not checkpoint.due()
    now += 601
    assert checkpoint.due()
    checkpoint.save(STATE)
    assert not checkpoint.due()


class Recorder:
    """Counts how often the digest of the images is made, and in which threads."""

    def __init__(self, monkeypatch):
        self.threads, made = [], checkpoints.digest

        def recorded(part: object) -> str:
            if part == "images":
                self.threads.append(threading.current_thread())
            return made(part)

        monkeypatch.setattr(checkpoints, "digest", recorded)


def test_the_images_digest_is_begun_at_half_time_in_a_thread(tmp_path, monkeypatch):
    """A run that is shorter makes none: it would read 30 GB of Food-101 for nothing."""
    now, made = 1000.0, Recorder(monkeypatch)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    checkpoint = Checkpoint(tmp_path / "run.pt", 10)
    assert checkpoint.load(CPU, "images") is None
    now += 299
    assert not checkpoint.due() and not made.threads
    now += 2
    assert not checkpoint.due() and not checkpoint.due()
    now += 300
    assert checkpoint.due()
    checkpoint.save(STATE)
    checkpoint.save(STATE)
    assert len(made.threads) == 1 and made.threads[0].daemon
    assert Checkpoint(checkpoint.path, 10).load(CPU, "images")
    assert len(made.threads) == 2


def test_images_that_cannot_be_read_are_reported_when_the_checkpoint_is_written(tmp_path, monkeypatch, capfd):
    checkpoint = Checkpoint(tmp_path / "run.pt", 0)
    checkpoint.load(CPU, tmp_path / "gone.npy")
    assert checkpoint.due()
    assert not checkpoint.save(STATE)
    assert "run.pt: checkpoint not written ([Errno 2] No such file or directory" in capfd.readouterr().err


def test_a_digest_depends_on_the_content(tmp_path):
    table = pd.DataFrame({"path": ["a", "b"], "target": [0, 1]})
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.save(tmp_path / "array.npy", array)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("text")
    parts = [array, torch.from_numpy(array), table, tmp_path, {"a": 1.0}, [1, 2], "text", None]
    digests = [digest(part) for part in parts]
    assert len(set(digests)) == len(parts)
    assert digest([np.arange(6, dtype=np.uint8).reshape(2, 3), table.copy()]) == digest([array, table])
    others = [
        array.T.copy(),
        array.astype(np.int8),
        array + np.uint8(array == 5),
        table[::-1],
        {"a": 1.0000000000000002},
    ]
    others += [[[1], 2], [1, [2]], ["12"], {"b": 1.0}]
    assert len({*digests, *map(digest, others)}) == len(parts) + len(others)
    (tmp_path / "folder" / "file").rename(tmp_path / "folder" / "other")
    assert digest(tmp_path) != digests[3]


def test_a_digest_of_a_data_set_depends_on_its_content(data, tmp_path):
    shutil.copytree(data.train_view.path.parent, tmp_path / "copy")
    copy = type(data).open(tmp_path / "copy")
    assert digest(copy) == digest(data)
    index = data.index.copy()
    index.loc[0, "target"] = 2
    others = [replace(data, index=index), data.hold_out(np.array([0]))]
    view = np.array(data.train_view)
    view[3, 5, 5, 1] ^= 1
    np.save(copy.train_view.path, view)
    others.append(type(data).open(tmp_path / "copy"))
    assert len({digest(data), *map(digest, others)}) == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_deferred_in_an_uninterrupted_block(number):
    def stop(number, frame) -> None:
        raise KeyboardInterrupt

    before, done = signal.signal(number, stop), []
    try:
        with pytest.raises(KeyboardInterrupt), uninterrupted():
            os.kill(os.getpid(), number)
            done.append(True)
        assert done
        assert signal.getsignal(number) is stop
        with uninterrupted():
            pass
    finally:
        signal.signal(number, before)
