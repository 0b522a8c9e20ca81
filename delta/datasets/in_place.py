"""A published data set that is unpacked already, used where it lies."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from delta.datasets.published import PublishedDataset
from delta.io.downloads import digest
from delta.io.errors import UserError

CHECKSUMS = "checksums.csv"


def data_root(source: Path, published: PublishedDataset) -> Path:
    """The folder that holds what the archives unpack to: `source`, or the folder around it if it is that itself.

    Raises:
        UserError: neither is.
    """
    if (source / published.folder).is_dir():
        return source
    if source.name == published.folder and source.is_dir():
        return source.parent
    raise UserError(f"{source}: is not the folder {published.folder} of the publisher's archive, and does not hold it")


def write_checksums(root: Path, paths: Iterable[str], out: Path) -> None:
    """Write the SHA-256 of each image into the folder `out`, so that later stages are run again if one changes.

    Args:
        root: the folder that the paths are relative to.
    """
    rows = [(path, digest(root / path, "sha256")) for path in tqdm(list(paths), desc="checksums", unit="image")]
    pd.DataFrame(rows, columns=["path", "sha256"]).to_csv(out / CHECKSUMS, index=False)
