"""Downloading published concept annotations for network dissection."""

from __future__ import annotations

from pathlib import Path
from shutil import rmtree

from delta.io.archives import unpack
from delta.io.downloads import Downloads
from delta.io.errors import UserError
from delta.io.remote_file import RemoteFile

PUBLISHED = {"broden1_224": RemoteFile("http://netdissect.csail.mit.edu/data/broden1_224.zip")}


def fetch_concepts(name: str, downloads: Downloads, out: Path) -> None:
    """Download and extract concept annotations in Broden's format into the existing folder `out`.

    Args:
        name: one of PUBLISHED.

    Raises:
        UserError: the archive cannot be downloaded, is damaged or has no index.csv.
    """
    archive = downloads.fetch(PUBLISHED[name])
    unpacked = out / ".unpacked"
    unpacked.mkdir()
    unpack(archive, unpacked)
    indexes = [*unpacked.glob("index.csv"), *unpacked.glob("*/index.csv")]
    if not indexes:
        raise UserError(f"{archive}: has no index.csv, so it is not Broden: download it from its publisher again")
    for path in indexes[0].parent.iterdir():
        path.rename(out / path.name)
    rmtree(unpacked, ignore_errors=True)
