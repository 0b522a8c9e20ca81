"""Fonts for names in any script: DejaVu Sans, and installed fonts for letters that it lacks."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

MAIN = "DejaVu Sans"  # comes with Matplotlib
_REGULAR = (400, 500)  # weights
_BOXES = "Last Resort"  # has a box with the name of its script for every letter


def font_families(texts: Iterable[str]) -> list[str]:
    """The families that Matplotlib needs to draw the texts, DejaVu Sans first."""
    letters = sorted({letter for text in texts for letter in text})
    return list(dict.fromkeys([MAIN, *filter(None, map(_family_with, letters))]))


def drawable(text: str) -> str:
    """The text, with the code of each letter that no installed font has in its place, such as `\\u732b`."""
    return "".join(letter if letter == "\n" or _family_with(letter) else _code(letter) for letter in text)


def undrawable_letters(texts: Iterable[str]) -> str:
    """The letters that no installed font has, sorted."""
    return "".join(sorted({letter for text in texts for letter in text if not _family_with(letter)}))


@cache
def _family_with(letter: str) -> str | None:
    return next((family for family in _families() if ord(letter) in _letters(family)), None)


@cache
def _families() -> list[str]:
    """The families of installed upright fonts, DejaVu Sans first, then the sans-serif ones."""
    regular = [font.name for font in fontManager.ttflist if font.style == "normal" and font.weight in _REGULAR]
    names = {name for name in regular if not name.startswith(_BOXES)}
    return sorted(names, key=lambda name: (name != MAIN, "sans" not in name.lower(), name))


@cache
def _letters(family: str) -> frozenset[int]:
    try:
        return frozenset(get_font(findfont(FontProperties(family=[family]))).get_charmap())
    except (OSError, RuntimeError, ValueError):  # a damaged font, or one of colour bitmaps
        return frozenset()


def _code(letter: str) -> str:
    return f"\\u{ord(letter):04x}"
