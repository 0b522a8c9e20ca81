"""Tables as Markdown and LaTeX text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def markdown(heading: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> list[str]:
    """The lines of a table whose first `texts` columns are set to the left and whose others to the right."""
    rule = ["---"] * texts + ["---:"] * (len(heading) - texts)
    return [f"| {' | '.join(cells)} |" for cells in (heading, rule, *rows)]


def latex(blocks: Iterable[tuple[Sequence[str], Iterable[Sequence[str]]]], texts: int = 1) -> str:
    """One tabular of blocks, each with its heading and rows; the cells are LaTeX."""
    lines, width = [], 0
    for heading, rows in blocks:
        lines += [r"\midrule"] if lines else []
        lines += [" & ".join(heading) + r" \\", r"\midrule", *(" & ".join(cells) + r" \\" for cells in rows)]
        width = len(heading)
    columns = "l" * texts + "r" * (width - texts)
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *lines, r"\bottomrule", r"\end{tabular}", ""])


def escaped(text: str) -> str:
    return re.sub(r"([_&%#$])", r"\\\1", text)


def formula(text: str) -> str:
    """A number as LaTeX; nothing for nothing."""
    return "$" + text.replace("±", r"\pm") + "$" if text else ""
