"""Target data sets: one module a published format, each giving the same table of path and label."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from delta.datasets import caltech256, drawn, folder


def fetch(format: str, source: str, images_per_class: int | None, seed: int, out: Path) -> None:
    """Bring a data set's images below the existing folder `out`, laid out as its publisher lays them out.

    Args:
        format: a data set's `format` parameter.
        source: its `source` parameter.
        images_per_class, seed: how much to draw, for the drawn format.

    Raises:
        UserError: something is wrong with the images' source.
    """
    if format == "drawn":
        drawn.draw(out, images_per_class, seed)
    else:
        folder.copy_images(Path(source), out)


def read(format: str, root: Path) -> pd.DataFrame:
    """The table of a fetched data set: path (relative to `root`, posix) and label, sorted by path.

    Raises:
        UserError: `root` does not hold the data set.
    """
    return caltech256.read(root) if format == "drawn" else folder.read(root)
