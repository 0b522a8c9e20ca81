"""Downloading and extracting a published data set."""

from __future__ import annotations

import shutil
from pathlib import Path

from delta.datasets.published import PublishedDataset
from delta.io.archives import unpack
from delta.io.downloads import Downloads


def fetch(published: PublishedDataset, downloads: Downloads, out: Path) -> None:
    """Download every file, extract the archives into the existing folder `out` and copy the lists there.

    Raises:
        UserError: a file cannot be downloaded, or an archive is damaged or malicious.
    """
    # Download everything before extracting anything, so that network problems show early.
    for remote, file in [(remote, downloads.fetch(remote)) for remote in published.files]:
        if file.suffix == ".txt":
            shutil.copyfile(file, out / remote.url.rpartition("/")[2])
        else:
            unpack(file, out)
