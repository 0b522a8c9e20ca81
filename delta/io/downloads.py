"""Published files: downloaded once, resumed where a connection was cut, and used only with the bytes they must have."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

import pooch
import requests
import urllib3
from filelock import FileLock, Timeout
from tqdm import tqdm

from delta.io.errors import UserError
from delta.io.files import atomic_file
from delta.io.remote_file import RemoteFile

_CHUNK = 1 << 20  # bytes
_GB = 1e9
_RECORD = re.compile(r"(?P<digest>[0-9a-f]{64}) [ *](?P<name>.+)")


@dataclass(frozen=True)
class Downloads:
    """Where published files come from and where they are kept.

    Attributes:
        folder: downloaded files; one that is already there is used without a network.
        checksums: the SHA-256 of files whose publisher gives no full checksum, as `sha256sum` writes them.
        mirror: the base address that stands for every publisher's: http(s)://…, file://… or a folder. Its files have
            the names that they have in `folder`.
        retries: how often a failing download is tried again, with growing pauses.
        timeout: seconds without a single byte after which a connection counts as failed.
    """

    folder: Path
    checksums: Path
    mirror: str | None = None
    retries: int = 6
    timeout: float = 30

    def fetch(self, file: RemoteFile) -> Path:
        """The local file, its checksum verified: the one in `folder`, a local mirror's in place, or a fresh download.

        Raises:
            UserError: the file cannot be had, has not the bytes it must have, or does not fit on the disk.
        """
        path, source, recorded = self.folder / file.name, self._source(file), self._recorded()
        if path.exists():
            self._must_be_right(path, file, "delete the file and run again")
        elif isinstance(source, Path):
            if not source.is_file():
                raise UserError(f"{source}: no such file: put it there or set downloads.mirror to where it is")
            self._must_be_right(source, file, "put the published file there")
            return source
        else:
            try:
                with _alone(path, f"waiting for another process, which downloads {file.name}"):
                    # Pooch leaves a file alone that is there, as it is where another process has brought it meanwhile.
                    self._download(source, file, is_known=bool(file.checksum) or file.name in recorded)
            except OSError as error:
                raise UserError(
                    f"{path}: cannot be written: {_reason(error)}: make room or set downloads.folder to another disk"
                ) from None
        return path

    def _source(self, file: RemoteFile) -> str | Path:
        """A URL to download from, or a file to use in place."""
        address, named = file.url, "a file's URL"
        if self.mirror is not None:
            named = "downloads.mirror"
            if "://" not in self.mirror:
                return Path(self.mirror).expanduser() / file.name
            address = f"{self.mirror.rstrip('/')}/{quote(file.name)}"
        parts = urlsplit(address)
        if parts.scheme == "file":
            return Path(url2pathname(parts.path))
        if parts.scheme not in ("http", "https"):
            raise UserError(f"{address}: {named} must begin with http://, https:// or file://")
        return address

    def _download(self, url: str, file: RemoteFile, is_known: bool) -> None:
        partial = self.folder / f".{file.name}.partial"
        # Pooch tries again, pauses, and gives the final name; a head of a digest is beyond it, so it gets no checksum.
        store = pooch.create(self.folder, "", registry={file.name: None}, urls={file.name: url})
        store.retry_if_failed = self.retries
        try:
            store.fetch(file.name, downloader=_Transfer(self, file, partial, is_known))
        except (ValueError, requests.RequestException) as error:
            raise UserError(
                f"{url}: {_reason(error)}, {self.retries + 1} times in a row: run again later, {self._otherwise(file)}"
            ) from None

    def _otherwise(self, file: RemoteFile) -> str:
        return f"put the file as {file.name} into {self.folder} yourself, or set downloads.mirror"

    def _must_be_right(self, path: Path, file: RemoteFile, advice: str) -> None:
        if wrong := self._wrong(path, file):
            raise UserError(f"{path}: {wrong}: {advice}")

    def _wrong(self, path: Path, file: RemoteFile) -> str | None:
        """What is wrong with a file's bytes; the SHA-256 of the first one without a full checksum is recorded."""
        algorithm, _, published = (file.checksum or "sha256:").lower().partition(":")
        found = digest(path, algorithm)
        if not found.startswith(published):
            return f"{file.name} has the {algorithm} {found}, its publisher gives {published}"
        if found == published:
            return None
        recorded = self._recorded()
        if file.name not in recorded:
            with _alone(self.checksums):
                recorded = {file.name: found} | self._recorded()
                with atomic_file(self.checksums) as scratch:
                    scratch.write_text("".join(f"{recorded[name]}  {name}\n" for name in sorted(recorded)), "utf-8")
        if found != recorded[file.name]:
            return (
                f"{file.name} has the sha256 {found}, recorded is {recorded[file.name]}"
                f" (if its publisher really changed it, delete its line in {self.checksums})"
            )
        return None

    def _recorded(self) -> dict[str, str]:
        try:
            lines = self.checksums.read_text("utf-8").splitlines() if self.checksums.exists() else []
        except (OSError, ValueError) as error:
            raise UserError(f"{self.checksums}: not readable ({error}): mend or delete it") from None
        records = [_RECORD.fullmatch(line) for line in lines]
        if None in records:
            raise UserError(f"{self.checksums}:{records.index(None) + 1}: not a line of `sha256sum`: mend or delete it")
        return {record["name"]: record["digest"] for record in records}


class _Transfer:
    """One file's download, called by pooch for every try: it goes on where the last one was cut.

    The bytes gather in `partial`, which outlives a failed run; they leave it only when they are complete and right.
    """

    def __init__(self, downloads: Downloads, file: RemoteFile, partial: Path, is_known: bool):
        self.downloads, self.file, self.partial, self.is_known = downloads, file, partial, is_known
        self.version: str | None = None  # ETag or date of the bytes that this run has seen

    def __call__(self, url: str, out: str, store: pooch.Pooch) -> None:
        """Download to `out`, a name that pooch has reserved in the same folder.

        Raises:
            ValueError, requests.RequestException: worth another try.
            UserError: not worth it.
        """
        # Only a checksum, or the version that this run has seen, tells whether the bytes so far belong to this file.
        is_usable = self.partial.exists() and (self.is_known or self.version)
        start = self.partial.stat().st_size if is_usable else 0
        headers = {"Accept-Encoding": "identity"}  # lengths and ranges shall count the file's own bytes
        if start:
            headers["Range"] = f"bytes={start}-"
            if self.version:
                headers["If-Range"] = self.version
        with requests.get(url, headers=headers, stream=True, timeout=self.downloads.timeout) as response:
            self._read(response, start)
        if wrong := self.downloads._wrong(self.partial, self.file):
            self.partial.unlink()
            raise ValueError(wrong)
        self.partial.replace(out)

    def _read(self, response: requests.Response, start: int) -> None:
        status = response.status_code
        is_rest = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if status == 416 or (status == 206 and not is_rest):
            self.partial.unlink(missing_ok=True)
            raise requests.HTTPError("the server does not resume")
        answer = f"{status} {response.reason}".strip()
        if 400 <= status < 500 and status != 429:
            raise UserError(f"{response.url}: {answer}: {self.downloads._otherwise(self.file)}")
        if status not in (200, 206):
            raise requests.HTTPError(answer)
        start = start if status == 206 else 0
        tag = response.headers.get("ETag", "W/")
        self.version = response.headers.get("Last-Modified") if tag.startswith("W/") else tag
        total = start + int(response.headers["Content-Length"]) if "Content-Length" in response.headers else None
        if total is not None:
            self._must_fit(2 * total - start)
        with (
            self.partial.open("ab" if start else "wb") as out,
            tqdm(desc=self.file.name, total=total, initial=start, unit="B", unit_scale=True) as bar,
        ):
            try:
                # `read1` hands over what has arrived, so that a stall loses nothing; nothing is decompressed.
                while chunk := response.raw.read1(_CHUNK, decode_content=False):
                    bar.update(out.write(chunk))
            except urllib3.exceptions.HTTPError as error:  # fewer bytes than Content-Length among them
                raise requests.ConnectionError("the connection was cut") from error

    def _must_fit(self, needed: int) -> None:
        """The archive and what is unpacked from it, which images keep at about its size, need bytes on the disk."""
        folder = self.downloads.folder
        if (free := shutil.disk_usage(folder).free) < needed:
            raise UserError(
                f"{self.file.name} and what is unpacked from it need {needed / _GB:.1f} GB, the disk of {folder}"
                f" has {free / _GB:.1f} GB free: make room or set downloads.folder to another disk"
            )


@contextmanager
def _alone(path: Path, waiting: str | None = None) -> Iterator[None]:
    """While the block lasts, no other process is in such a block for the same file.

    Args:
        waiting: what to tell the user where one is, so that this one has to wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if waiting:
            tqdm.write(waiting)
        lock.acquire()
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # who waits for it notices and takes a new one
        lock.release()


def digest(path: Path, algorithm: str) -> str:
    """A file's checksum as hexadecimal digits, with progress where it takes long; `md5`, `sha256`, …"""
    found = hashlib.new(algorithm, usedforsecurity=False)
    size = path.stat().st_size
    with path.open("rb") as file, tqdm(desc="verify", total=size, unit="B", unit_scale=True, delay=1) as bar:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
            bar.update(len(chunk))
    return found.hexdigest()


def _reason(error: BaseException) -> str:
    """What is at the bottom of an error, such as `[Errno 111] Connection refused`, in one line."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return " ".join(str(error).split()) or type(error).__name__
