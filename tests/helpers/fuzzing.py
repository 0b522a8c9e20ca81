"""Fuzz tests: damaged files, and a check that a reader either succeeds or refuses them with one line."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from delta.io.errors import UserError

HANG = 60  # seconds; a case normally takes milliseconds

# Difficult input for parsers: separators and terminators, invalid numbers, paths outside the folder.
TOKENS = [
    *(b"\0", b"\n", b"\r\n", b"\r", b" ", b"\t", b",", b";", b":", b'"', b"'", b"\\", b"[", b"]", b"{", b"}", b"#"),
    *(b"-1", b"0", b"1e999", b"nan", b"inf", b"1.5", b"9" * 20, b"9" * 5000, b"0x" + b"f" * 5000, b"true", b"null"),
    *(b"../", b"/", b"../../../etc/passwd", b"a" * 300, b"\xff\xfe", b"\xef\xbb\xbf", b"\x80", "é".encode()),
    *(b"\x1b[31m", "\u2028".encode(), b"\x85", b"\xed\xa0\x80", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"),
]


def mutated(*files: bytes) -> st.SearchStrategy[bytes]:
    """One of the files with one to four edits, or rarely unrelated bytes."""
    edit = st.tuples(
        st.sampled_from(["flip", "cut", "drop", "repeat", "insert", "overwrite"]),
        st.integers(0, 2**32),
        st.integers(1, 40),
        st.one_of(st.sampled_from(TOKENS), st.binary(min_size=1, max_size=1), st.binary(min_size=1, max_size=12)),
    )
    edits = st.one_of(st.lists(edit, min_size=1, max_size=most) for most in (1, 1, 4))
    edited = st.builds(_edited, st.sampled_from(files), edits)
    return st.one_of(*[edited] * 15, st.binary(max_size=300))


def _edited(content: bytes, edits: list[tuple[str, int, int, bytes]]) -> bytes:
    for kind, number, length, new in edits:
        at = number % (len(content) + 1)
        head, piece, tail = content[:at], content[at : at + length], content[at + length :]
        if kind == "flip" and piece:
            content = head + bytes([piece[0] ^ 1 << number % 8]) + content[at + 1 :]
        elif kind == "cut":
            content = head
        elif kind == "drop":
            content = head + tail
        elif kind == "repeat":
            content = head + piece * 3 + tail
        elif kind == "insert":
            content = head + new + piece + tail
        elif kind == "overwrite":
            content = head + new + content[at + len(new) :]
    return content


@contextmanager
def _no_hang() -> Iterator[None]:
    def give_up(*_) -> None:
        raise AssertionError(f"takes more than {HANG} seconds")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(HANG)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Sandbox:
    """A folder with `in` and `out`, in which readers get damaged files.

    Attributes:
        share: only one in `share` of a test's cases is run.
    """

    def __init__(self, root: Path, share: int):
        self.input, self.out, self._root, self._share = root / "in", root / "out", root, share
        self.input.mkdir()
        self.out.mkdir()

    def fuzz(self, cases: int, strategy: st.SearchStrategy, valid: Any, read: Callable[[Any], Any]) -> None:
        """Call `read` with the valid value and then with the strategy's values, which are the same in every run.

        `read` itself checks what the reader returns. An error must be a UserError of one line that leaves nothing in
        `out`. Nothing outside of the two folders may change. The valid value must be read, and at least one other
        value must be refused, because otherwise the test checks nothing.
        """
        surroundings, ends = self._surroundings(), {"read": 0, "refused": 0}

        @settings(
            max_examples=max(10, cases // self._share),
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        @example(valid)
        def case(value: Any) -> None:
            try:
                with _no_hang():
                    read(value)
                ends["read"] += 1
            except UserError as error:
                assert value is not valid, error
                assert str(error).isprintable(), "no line"
                assert not list(self.out.iterdir()), "something is left"
                ends["refused"] += 1
            assert self._surroundings() == surroundings, "something else was written"

        case()
        assert sum(ends.values()) > cases // self._share
        assert all(ends.values()), ends

    def _surroundings(self) -> list[tuple[str, int]]:
        below = (path for path in self._root.iterdir() if path not in (self.input, self.out))
        return sorted((path.name, path.stat().st_mtime_ns) for path in below)
