"""What is known of a published file before it is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class RemoteFile:
    """A file as its publisher ships it.

    Attributes:
        url: http(s)://… or file://…
        checksum: "md5:<hex>" or "sha256:<hex>", of which the hex may be only the head; None where none is published.
        saved_as: the local file name, where the last part of the URL is not telling.
    """

    url: str
    checksum: str | None = None
    saved_as: str | None = None

    @property
    def name(self) -> str:
        return self.saved_as or PurePosixPath(unquote(urlsplit(self.url).path)).name
