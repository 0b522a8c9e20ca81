"""Bringing a published data set here."""

from __future__ import annotations

import shutil
from pathlib import Path

from delta.datasets.published import Published
from delta.io.archives import unpack
from delta.io.downloads import Downloads


def fetch(published: Published, downloads: Downloads, out: Path) -> None:
    """Fetch every file, unpack the archives below the existing folder `out` and copy the lists into it.

    Raises:
        UserError: a file cannot be fetched, or an archive is damaged or hostile.
    """
    # All are fetched before the first is unpacked: what fails for want of a network fails early.
    for remote, file in [(remote, downloads.fetch(remote)) for remote in published.files]:
        if file.suffix == ".txt":
            shutil.copyfile(file, out / remote.url.rpartition("/")[2])
        else:
            unpack(file, out)
