"""The fenced blocks of a guide in docs/, and how a reader applies them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple


class Block(NamedTuple):
    """A fenced block: its language, the file that it writes or changes (if any), and its text."""

    language: str
    file: str
    text: str


def blocks(guide: Path, section: str = "") -> list[Block]:
    """The blocks of a guide, or of the section with this heading, in order.

    ```` ```python delta/x.py ```` starts a block that is the file delta/x.py.
    """
    text = guide.read_text(encoding="utf-8")
    if section:
        (text,) = [part for part in re.split(r"^## ", text, flags=re.M) if part.startswith(f"{section}\n")]
    found = re.findall(r"^```(.*?)\n(.*?)^```$", text, re.M | re.S)
    return [Block(info.partition(" ")[0], info.partition(" ")[2], text) for info, text in found]


def commands(guide: Path) -> list[list[str]]:
    """The words of every command line in the shell blocks."""
    lines = [line for block in blocks(guide) if block.language == "sh" for line in block.text.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def merged(values: dict, changes: dict, extend_lists: bool = False) -> dict:
    """Apply the changes of a part of a YAML file; a list replaces the old one, or extends it."""
    both = {}
    for key, value in changes.items():
        old = values.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            both[key] = merged(old, value, extend_lists)
        elif isinstance(old, list) and extend_lists:
            both[key] = [*old, *value]
    return values | changes | both
