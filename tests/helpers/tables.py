"""Printed tables, read back."""

from __future__ import annotations


def markdown_rows(text: str) -> list[list[str]]:
    """The cells of each row of the one table in a Markdown text, without its heading."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"][2:]
