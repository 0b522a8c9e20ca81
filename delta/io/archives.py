"""Unpacking published archives, which may be damaged or hostile."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from delta.io.errors import UserError
from delta.io.files import NO_ROOM

_GB = 1e9


def unpack(archive: Path, out: Path) -> None:
    """Unpack a .tar, .tar.gz, .tgz or .zip below the existing folder `out`, in one pass.

    Nothing is written outside `out`, and nothing but files, folders and (from tar) links within `out`.

    Raises:
        UserError: the archive is damaged, of another kind, too large for the disk, or has a member that it must not
            have; `out` may then hold a part of it.
    """
    if archive.name.endswith(".zip"):
        extract = _unpack_zip
    elif archive.name.endswith((".tar", ".tar.gz", ".tgz")):
        extract = _unpack_tar
    else:
        raise UserError(f"{archive}: not a .tar, .tar.gz, .tgz or .zip")
    try:
        extract(archive, out)
    except tarfile.FilterError as error:
        raise _hostile(archive, error.tarinfo.name) from None
    except UserError:
        raise
    except Exception as error:  # tarfile and zipfile have nearly every kind for what is cut, spoilt or no archive
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise UserError(f"{archive}: cannot be unpacked ({reason}): if it is damaged, get it anew") from None


def _unpack_tar(archive: Path, out: Path) -> None:
    with (
        archive.open("rb") as raw,
        tqdm.wrapattr(raw, "read", desc=f"unpack {archive.name}", total=archive.stat().st_size, delay=1) as file,
        tarfile.open(fileobj=file) as tar,
    ):
        for member in tar:
            # tarfile's own filter asks the file system, whose answer an archive's links can bend (CVE-2025-4517).
            if _leaves(member.name) or (member.linkname and _leaves(member.linkname)):
                raise _hostile(archive, member.name)
            _must_fit(archive, member.size, out)
            tar.extract(member, out, filter="data")
        # tarfile takes a bad header for the end; and only at a stream's very end does gzip compare its checksum.
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("unexpected end of data")
        while tar.fileobj.read(1 << 20):
            pass


def _unpack_zip(archive: Path, out: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        _must_fit(archive, sum(member.file_size for member in file.infolist()), out)
        for member in tqdm(file.infolist(), desc=f"unpack {archive.name}", unit="file", delay=1):
            if _leaves(member.filename) or stat.S_ISLNK(member.external_attr >> 16):
                raise _hostile(archive, member.filename)
            file.extract(member, out)


def _must_fit(archive: Path, size: int, out: Path) -> None:
    """A small archive can say that it holds more than any disk does, and sparse members could be made to look it."""
    if size < 0:
        raise ValueError(f"a member of {size} bytes")
    if size > (free := shutil.disk_usage(out).free):
        raise UserError(
            f"{archive}: what is in it needs {size / _GB:.1f} GB, the disk of {out} has {free / _GB:.1f} GB free: make "
            "room, or get the archive anew if it should be smaller"
        )


def _leaves(path: str) -> bool:
    return PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts


def _hostile(archive: Path, member: str) -> UserError:
    return UserError(
        f"{archive}: its member {member!r} is a path or link that may leave the folder, or no plain file:"
        " get the archive from its publisher again"
    )
