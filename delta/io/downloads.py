"""Downloading published files once, with resumption of interrupted downloads and checksum verification."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

import pooch
import requests
import urllib3
from tqdm import tqdm

from delta.io.errors import UserError
from delta.io.files import atomic_file
from delta.io.locks import locked
from delta.io.remote_file import RemoteFile

_CHUNK = 1 << 20  # bytes
_GB = 1e9
_CHECKSUM_LINE = re.compile(r"(?P<digest>[0-9a-f]{64}) [ *](?P<name>.+)")


@dataclass(frozen=True)
class Downloads:
    """Where published files are downloaded from and where they are kept.

    Attributes:
        folder: the downloaded files; a file that is already there is used without network access.
        checksums: a file in the format of `sha256sum` with the SHA-256 of files whose publisher gives no full
            checksum, recorded at their first download.
        mirror: a base URL (http(s)://… or file://…) or a folder to use instead of every publisher's server. Its files
            have the same names as in `folder`.
        retries: how many times a failed download is retried, with growing pauses.
        timeout: seconds without a single received byte after which a connection counts as failed.
    """

    folder: Path
    checksums: Path
    mirror: str | None = None
    retries: int = 6
    timeout: float = 30

    def fetch(self, file: RemoteFile) -> Path:
        """The path of the verified local file: in `folder`, downloaded if necessary, or in a local mirror, in place.

        Raises:
            UserError: the file cannot be downloaded, fails its checksum or does not fit on the disk.
        """
        path, source, recorded = self.folder / file.name, self._source(file), self._recorded()
        if path.exists():
            self._verify(path, file, "delete the file and run again")
        elif isinstance(source, Path):
            if not source.is_file():
                raise UserError(f"{source}: no such file: put it there, or set downloads.mirror to its folder")
            self._verify(source, file, "put the published file there")
            return source
        else:
            try:
                with locked(_lock(path), f"waiting for another process that is downloading {file.name}"):
                    # Pooch skips the download if another process has finished it in the meantime.
                    self._download(source, file, is_known=bool(file.checksum) or file.name in recorded)
            except OSError as error:
                raise UserError(
                    f"{path}: cannot be written: {_reason(error)}: free disk space, or change downloads.folder"
                ) from None
        return path

    def _source(self, file: RemoteFile) -> str | Path:
        """The URL to download from, or the local file to use in place."""
        address, setting = file.url, "a file's URL"
        if self.mirror is not None:
            setting = "downloads.mirror"
            if "://" not in self.mirror:
                return Path(self.mirror).expanduser() / file.name
            address = f"{self.mirror.rstrip('/')}/{quote(file.name)}"
        parts = urlsplit(address)
        if parts.scheme == "file":
            return Path(url2pathname(parts.path))
        if parts.scheme not in ("http", "https"):
            raise UserError(f"{address}: {setting} must begin with http://, https:// or file://")
        return address

    def _download(self, url: str, file: RemoteFile, is_known: bool) -> None:
        partial = self.folder / f".{file.name}.partial"
        # Pooch retries, pauses and renames. It gets no checksum, as it cannot compare a prefix of a digest.
        store = pooch.create(self.folder, "", registry={file.name: None}, urls={file.name: url})
        store.retry_if_failed = self.retries
        try:
            store.fetch(file.name, downloader=_Transfer(self, file, partial, is_known))
        except (ValueError, requests.RequestException) as error:
            raise UserError(
                f"{url}: {_reason(error)}, {self.retries + 1} times in a row: run again later, "
                f"{self._alternatives(file)}"
            ) from None

    def _alternatives(self, file: RemoteFile) -> str:
        """What a user can do instead of downloading the file, for an error message."""
        return f"put the file as {file.name} into {self.folder} yourself, or set downloads.mirror"

    def _verify(self, path: Path, file: RemoteFile, advice: str) -> None:
        if mismatch := self.checksum_mismatch(path, file):
            raise UserError(f"{path}: {mismatch}: {advice}")

    def checksum_mismatch(self, path: Path, file: RemoteFile) -> str | None:
        """Describe how a file's checksum differs from the published or recorded one; None if it does not.

        If the publisher gives no full checksum, the SHA-256 of the first download is recorded in `checksums`.
        """
        algorithm, _, published = (file.checksum or "sha256:").lower().partition(":")
        found = digest(path, algorithm)
        if not found.startswith(published):
            return f"{file.name} has the {algorithm} {found}, the published one is {published}"
        if found == published:
            return None
        recorded = self._recorded()
        if file.name not in recorded:
            with locked(_lock(self.checksums)):
                recorded = {file.name: found} | self._recorded()
                with atomic_file(self.checksums) as scratch:
                    scratch.write_text("".join(f"{recorded[name]}  {name}\n" for name in sorted(recorded)), "utf-8")
        if found != recorded[file.name]:
            return (
                f"{file.name} has the sha256 {found}, the recorded one is {recorded[file.name]}"
                f" (if its publisher really changed it, delete its line in {self.checksums})"
            )
        return None

    def _recorded(self) -> dict[str, str]:
        try:
            lines = self.checksums.read_text("utf-8").splitlines() if self.checksums.exists() else []
        except (OSError, ValueError) as error:
            raise UserError(f"{self.checksums}: not readable ({error}): fix or delete it") from None
        recorded = {}
        for number, line in enumerate(lines, start=1):
            if not (match := _CHECKSUM_LINE.fullmatch(line)):
                raise UserError(f"{self.checksums}:{number}: not in the format of `sha256sum`: fix or delete the line")
            recorded[match["name"]] = match["digest"]
        return recorded


class _Transfer:
    """A pooch downloader for one file that resumes where the previous attempt was interrupted.

    The bytes are appended to `partial`, which is kept when a run fails, and renamed once complete and verified.
    """

    def __init__(self, downloads: Downloads, file: RemoteFile, partial: Path, is_known: bool):
        self.downloads, self.file, self.partial, self.is_known = downloads, file, partial, is_known
        self.version: str | None = None  # the ETag or modification date of the bytes received in this run

    def __call__(self, url: str, out: str, store: pooch.Pooch) -> None:
        """Download to `out`, a temporary file of pooch's in the same folder.

        Raises:
            ValueError, requests.RequestException: a retry may succeed.
            UserError: a retry is pointless.
        """
        # Resume only if a checksum, or the version seen in this run, shows that the bytes so far belong to this file.
        is_usable = self.partial.exists() and (self.is_known or self.version)
        start = self.partial.stat().st_size if is_usable else 0
        headers = {"Accept-Encoding": "identity"}  # so that lengths and ranges count the bytes of the file itself
        if start:
            headers["Range"] = f"bytes={start}-"
            if self.version:
                headers["If-Range"] = self.version
        with requests.get(url, headers=headers, stream=True, timeout=self.downloads.timeout) as response:
            self._receive(response, start)
        if mismatch := self.downloads.checksum_mismatch(self.partial, self.file):
            self.partial.unlink()
            raise ValueError(mismatch)
        self.partial.replace(out)

    def _receive(self, response: requests.Response, start: int) -> None:
        """Append the response's body to `partial`, whose first `start` bytes were requested to be skipped."""
        status = response.status_code
        is_requested_range = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if status == 416 or (status == 206 and not is_requested_range):
            self.partial.unlink(missing_ok=True)
            raise requests.HTTPError("the server cannot resume the download")
        answer = f"{status} {response.reason}".strip()
        if 400 <= status < 500 and status != 429:
            raise UserError(f"{response.url}: {answer}: {self.downloads._alternatives(self.file)}")
        if status not in (200, 206):
            raise requests.HTTPError(answer)
        start = start if status == 206 else 0
        tag = response.headers.get("ETag", "W/")
        self.version = response.headers.get("Last-Modified") if tag.startswith("W/") else tag
        total = start + int(response.headers["Content-Length"]) if "Content-Length" in response.headers else None
        if total is not None:
            self._check_disk_space(2 * total - start)
        with (
            self.partial.open("ab" if start else "wb") as out,
            tqdm(desc=self.file.name, total=total, initial=start, unit="B", unit_scale=True) as bar,
        ):
            try:
                # `read1` returns what has arrived, so a stalled connection loses nothing; nothing is decompressed.
                while chunk := response.raw.read1(_CHUNK, decode_content=False):
                    bar.update(out.write(chunk))
            except urllib3.exceptions.HTTPError as error:  # also raised for fewer bytes than Content-Length
                raise requests.ConnectionError("the connection was interrupted") from error

    def _check_disk_space(self, needed: int) -> None:
        """Raise if fewer bytes are free than the file and its extracted contents need.

        Archives of images are hardly compressed, so the contents take about as much space as the archive.
        """
        folder = self.downloads.folder
        if (free := shutil.disk_usage(folder).free) < needed:
            raise UserError(
                f"{self.file.name} and its extracted contents need {needed / _GB:.1f} GB, the disk of {folder}"
                f" has {free / _GB:.1f} GB free: free disk space or set downloads.folder to another disk"
            )


def _lock(file: Path) -> Path:
    """The lock of a file, beside it."""
    return file.with_name(f".{file.name}.lock")


def digest(path: Path, algorithm: str) -> str:
    """The hexadecimal digest of a file by an algorithm of `hashlib`; shows a progress bar if it takes long."""
    found = hashlib.new(algorithm, usedforsecurity=False)
    size = path.stat().st_size
    with path.open("rb") as file, tqdm(desc="verify", total=size, unit="B", unit_scale=True, delay=1) as bar:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
            bar.update(len(chunk))
    return found.hexdigest()


def _reason(error: BaseException) -> str:
    """The root cause of an error in one line, such as `[Errno 111] Connection refused`."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return " ".join(str(error).split()) or type(error).__name__
