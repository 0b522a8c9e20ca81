"""Training reads the next batches while a step is computed: same bits, errors in one line, no thread left over."""

from __future__ import annotations

import shutil
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from delta.data.packed.views import DefaultViewData
from delta.data.packing import write_packed
from delta.io.errors import UserError
from delta.methods.registry import method_class
from delta.networks.network import build_network
from delta.training import loop
from delta.training.checkpoint import Checkpoint
from delta.training.loop import fine_tune
from tests.helpers.tiny import CROP, RESIZE, TRAINING, recipe, same_state

RECIPE = recipe(method_class("l2")(), seed=3, training=TRAINING.model_copy(update={"iterations": 5, "batch_size": 5}))


def trained(data, weights, checkpoint=None, log=lambda step: None) -> dict[str, torch.Tensor]:
    network, source = (build_network(weights, 3) for _ in range(2))
    fine_tune(network, source, data, RECIPE, {}, log, checkpoint=checkpoint)
    return network.state_dict()


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("read_ahead")]


def one_at_a_time(read, items):
    return ((item, read(item)) for item in items)


def test_reading_ahead_changes_no_bit(data, whole, weights, monkeypatch):
    ahead = [trained(view, weights) for view in (data, whole)]
    monkeypatch.setattr(loop, "read_ahead", one_at_a_time)
    assert same_state(ahead[0], trained(data, weights))
    assert same_state(ahead[1], trained(whole, weights))
    assert not same_state(*ahead)


def test_a_step_finds_the_next_batch_read(data, weights, monkeypatch):
    """No step goes on before the following batch has been read, which only another thread can do meanwhile."""
    read, steps, more = [], [], threading.Condition()
    images, objective = DefaultViewData.training_images, loop.objective

    def noted(self, batch):
        found = images(self, batch)
        with more:
            read.append(batch)
            more.notify_all()
        return found

    def computed(*arguments):
        steps.append(len(steps))
        with more:
            assert more.wait_for(lambda: len(read) >= min(len(steps) + 1, 5), timeout=60)
        return objective(*arguments)

    monkeypatch.setattr(DefaultViewData, "training_images", noted)
    monkeypatch.setattr(loop, "objective", computed)
    trained(data, weights)
    assert len(steps) == len(read) == 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_run_leaves_no_thread_and_resumes_to_the_same_bits(error, data, weights, tmp_path, monkeypatch):
    expected, calls, uninterrupted = trained(data, weights), [], loop.uninterrupted

    @contextmanager
    def interrupted():
        """As a signal: it is deferred to the end of the iteration."""
        with uninterrupted():
            yield
        calls.append(1)
        if len(calls) == 3:
            assert readers()
            raise error

    monkeypatch.setattr(loop, "uninterrupted", interrupted)
    with pytest.raises(error):
        trained(data, weights, Checkpoint(tmp_path / "run.pt", 10))
    assert not readers()
    steps = []
    resumed = trained(data, weights, Checkpoint(tmp_path / "run.pt", 10), steps.append)
    assert len(calls) == 5
    assert [step.iteration for step in steps] == [1, 2, 3, 4, 5]
    assert same_state(resumed, expected)


def test_a_file_that_changes_during_training_is_one_error(data, weights, tmp_path):
    shutil.copytree(data.train_view.path.parent, tmp_path / "copy")
    copy = DefaultViewData.open(tmp_path / "copy")
    copy.train_view.path.write_bytes(b"")
    with pytest.raises(UserError, match="train_view.npy: was changed while this run was reading it: run `dvc repro`"):
        trained(copy, weights)
    assert not readers()


def test_training_on_jpegs_sees_their_pixels(data, weights, tmp_path, photographs):
    """The same bits as of a raw data set that holds the decoded pixels."""
    write_packed(photographs, data.index, RESIZE, CROP, tmp_path, "jpeg")
    jpegs = DefaultViewData.open(tmp_path)
    decoded = replace(jpegs, train_view=jpegs.train_view[0:12], test_view=jpegs.test_view[0:18])
    state = trained(jpegs, weights)
    assert same_state(state, trained(decoded, weights))
    assert not same_state(state, trained(data, weights))


def test_training_checks_the_precision_first(data, weights, monkeypatch):
    def checked(precision, device):
        raise UserError(f"{precision} on {device}")

    monkeypatch.setattr(loop, "check_precision", checked)
    with pytest.raises(UserError, match="^fp32 on cpu$"):
        trained(data, weights)
