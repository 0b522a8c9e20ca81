"""Extracting published archives, which may be damaged or malicious."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from tqdm import tqdm

from delta.io.errors import UserError
from delta.io.files import DISK_FULL

_GB = 1e9


def unpack(archive: Path, out: Path) -> None:
    """Extract a .tar, .tar.gz, .tgz or .zip into the existing folder `out`, in one pass.

    Nothing is written outside `out`. Only files, folders and (from tar) links within `out` are created.

    Raises:
        UserError: the archive is damaged, of another format or too large for the disk, or a member's path or link
            leaves `out`. Part of the archive may have been extracted by then.
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
        raise _unsafe_member(archive, error.tarinfo.name) from None
    except UserError:
        raise
    except Exception as error:  # damaged archives make tarfile and zipfile raise nearly any exception
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise UserError(f"{archive}: cannot be unpacked ({reason}): if it is damaged, download it again") from None


def _unpack_tar(archive: Path, out: Path) -> None:
    with (
        archive.open("rb") as raw,
        tqdm.wrapattr(raw, "read", desc=f"unpack {archive.name}", total=archive.stat().st_size, delay=1) as file,
        tarfile.open(fileobj=cast(BinaryIO, file)) as tar,
    ):
        for member in tar:
            # tarfile's own filter resolves paths on disk, where links from the archive can mislead it (CVE-2025-4517).
            if _escapes(member.name) or (member.linkname and _escapes(member.linkname)):
                raise _unsafe_member(archive, member.name)
            _check_disk_space(archive, member.size, out)
            tar.extract(member, out, filter="data")
        # tarfile silently stops at a bad header, and gzip verifies its checksum only at the end of the stream.
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("unexpected end of data")
        while tar.fileobj.read(1 << 20):
            pass


def _unpack_zip(archive: Path, out: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        _check_disk_space(archive, sum(member.file_size for member in file.infolist()), out)
        for member in tqdm(file.infolist(), desc=f"unpack {archive.name}", unit="file", delay=1):
            if _escapes(member.filename) or stat.S_ISLNK(member.external_attr >> 16):
                raise _unsafe_member(archive, member.filename)
            file.extract(member, out)


def _check_disk_space(archive: Path, size: int, out: Path) -> None:
    """Raise if the extracted size exceeds the free disk space: a small archive may claim any size (zip bombs)."""
    if size < 0:
        raise ValueError(f"a member has a size of {size} bytes")
    if size > (free := shutil.disk_usage(out).free):
        raise UserError(
            f"{archive}: its contents need {size / _GB:.1f} GB, the disk of {out} has {free / _GB:.1f} GB free: free "
            "disk space, or download the archive again if it should be smaller"
        )


def _escapes(path: str) -> bool:
    """Whether a member's path may point outside the folder that it is extracted into."""
    return PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts


def _unsafe_member(archive: Path, member: str) -> UserError:
    return UserError(
        f"{archive}: its member {member!r} points outside the folder, or is not a regular file:"
        " download the archive from its publisher again"
    )
