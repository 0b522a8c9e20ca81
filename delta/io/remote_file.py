"""Where a published file is downloaded from, and its checksum."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class RemoteFile:
    """A file to download.

    Attributes:
        url: http(s)://… or file://…
        checksum: "md5:<hex>" or "sha256:<hex>", where <hex> may be a prefix of the digest; None if none is published.
        saved_as: the local file name, if the last part of the URL would be ambiguous.
    """

    url: str
    checksum: str | None = None
    saved_as: str | None = None

    @property
    def name(self) -> str:
        """The local file name."""
        return self.saved_as or PurePosixPath(unquote(urlsplit(self.url).path)).name
