"""Reading ahead: in order, in threads, a few items ahead, with errors at their turn, and without threads left over."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from delta.data.packed import ahead
from delta.data.packed.ahead import read_ahead
from delta.io.errors import UserError


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read_ahead")]


@pytest.fixture(params=[1, 8])
def cores(request, monkeypatch) -> int:
    monkeypatch.setattr(ahead, "available_cores", lambda: request.param)
    return request.param


def test_items_come_in_order_with_what_is_read_in_other_threads(cores):
    taken_in, read_in = set(), set()

    def items():
        for item in range(30):
            taken_in.add(threading.current_thread())
            yield item

    def read(item: int) -> int:
        read_in.add(threading.current_thread())
        return item * item

    assert list(read_ahead(read, items())) == [(item, item * item) for item in range(30)]
    assert taken_in == {threading.current_thread()}
    assert read_in and not read_in & taken_in
    assert not readers()


def test_the_next_items_are_read_while_one_is_used_but_only_a_few(cores):
    read = [threading.Event() for _ in range(20)]
    with closing(read_ahead(lambda item: read[item].set(), range(20))) as items:
        for item, _ in items:
            assert item == 19 or read[item + 1].wait(60)
            assert not any(each.is_set() for each in read[item + 7 :])


def test_an_error_comes_at_its_item(cores):
    def read(item: int) -> int:
        if item == 3:
            raise UserError("the image is gone")
        return item

    found = []
    with pytest.raises(UserError, match="the image is gone"):
        for item, _ in read_ahead(read, range(10)):
            found.append(item)
    assert found == [0, 1, 2]
    assert not readers()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_its_threads_end_with_the_loop(cores, error):
    started = []
    with pytest.raises(error), closing(read_ahead(started.append, range(1000))) as items:
        for item, _ in items:
            if item == 5:
                assert readers()
                raise error
    assert not readers()
    assert len(started) < 12


def test_without_items_there_is_nothing():
    assert list(read_ahead(lambda item: item, [])) == []
