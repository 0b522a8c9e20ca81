"""Archives: valid ones are unpacked; damaged and malicious ones are one error line and change nothing outside."""

from __future__ import annotations

import gzip
import io
import random
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from delta.io.archives import unpack
from delta.io.errors import UserError

FILES = {f"set/images/{i:03d}.bin": random.Random(i).randbytes(2000) for i in range(20)}
KINDS = ["a.tar", "a.tar.gz", "a.tgz", "a.zip"]


def pack(path: Path, files: dict[str, bytes] = FILES) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def out(tmp_path) -> Path:
    (tmp_path / "outer/out").mkdir(parents=True)
    return tmp_path / "outer/out"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(archive: Path, out: Path) -> str:
    with pytest.raises(UserError) as error:
        unpack(archive, out)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(archive))
    return str(error.value)


@pytest.mark.parametrize("name", KINDS)
def test_an_archive_is_unpacked(tmp_path, out, name):
    unpack(pack(tmp_path / name), out)
    assert contents(out) == FILES


def test_members_with_a_leading_dot_and_internal_links(tmp_path, out):
    with tarfile.open(pack(tmp_path / "a.tar", {"./a/b": b"b", "._b": b"mac"}), "a") as archive:
        for name, kind, target in (("a/sym", tarfile.SYMTYPE, "b"), ("a/hard", tarfile.LNKTYPE, "./a/b")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    unpack(tmp_path / "a.tar", out)
    assert contents(out) == {"a/b": b"b", "a/sym": b"b", "a/hard": b"b", "._b": b"mac"}


@pytest.mark.parametrize("share", [0, 0.3, 0.6, 0.8])
@pytest.mark.parametrize("name", KINDS)
def test_a_truncated_archive(tmp_path, out, name, share):
    archive = pack(tmp_path / name)
    archive.write_bytes(archive.read_bytes()[: int(share * archive.stat().st_size)])
    refusal(archive, out)


def test_tar_cut_between_two_members(tmp_path, out):
    """tarfile itself takes this for the end of the archive."""
    archive = pack(tmp_path / "a.tar")
    archive.write_bytes(archive.read_bytes()[: 5 * (512 + 2048)])
    assert "unexpected end" in refusal(archive, out)


@pytest.mark.parametrize("damage", ["header", "data", "checksum"])
def test_a_corrupt_archive(tmp_path, out, damage):
    archive = pack(tmp_path / ("a.tar" if damage == "header" else "a.tgz"))
    content = bytearray(archive.read_bytes())
    at = {"header": 5 * (512 + 2048) + 10, "data": len(content) // 2, "checksum": len(content) - 8}[damage]
    content[at : at + 4] = b"\xff\xff\xff\xff"
    archive.write_bytes(content)
    refusal(archive, out)


def test_a_corrupt_zip_member(tmp_path, out):
    archive = pack(tmp_path / "a.zip")
    content = bytearray(archive.read_bytes())
    content[3000:3100] = bytes(100)
    archive.write_bytes(content)
    refusal(archive, out)


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_is_not_an_archive(tmp_path, out, name):
    (tmp_path / name).write_text("<html>404</html>" * 100)
    refusal(tmp_path / name, out)


def test_other_archive_formats_are_refused(tmp_path, out):
    (tmp_path / "a.rar").touch()
    assert "not a .tar" in refusal(tmp_path / "a.rar", out)


def test_a_missing_archive(tmp_path, out):
    assert "No such file" in refusal(tmp_path / "a.tar", out)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("member", ["../evil", "a/../../evil", "{outside}/evil"])
def test_member_paths_outside_the_folder(tmp_path, out, name, member):
    member = member.format(outside=tmp_path)
    archive = pack(tmp_path / name, {"good": b"", member: b"evil"})
    assert member in refusal(archive, out)
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "../.."),
        (tarfile.SYMTYPE, "{outside}"),
        (tarfile.LNKTYPE, "../../secret"),
        (tarfile.LNKTYPE, "{outside}/secret"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)
def test_tar_links_to_the_outside_and_devices(tmp_path, out, kind, target):
    (tmp_path / "secret").write_text("secret")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("evil")
        member.type, member.linkname = kind, target.format(outside=tmp_path)
        archive.addfile(member)
        member = tarfile.TarInfo("evil/secret")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))
    assert "'evil'" in refusal(tmp_path / "a.tar", out)
    assert not list(out.iterdir())
    assert (tmp_path / "secret").read_text() == "secret"


@pytest.mark.parametrize("sparse", [False, True])
def test_a_tar_that_declares_a_size_larger_than_any_disk(tmp_path, out, sparse):
    member = tarfile.TarInfo("bomb")
    member.size = 0 if sparse else 2**50
    member.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(2**50)} if sparse else {}
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.PAX_FORMAT if sparse else tarfile.GNU_FORMAT) + bytes(1024))
    assert "need 1125899.9 GB" in refusal(tmp_path / "a.tar", out)
    assert not list(out.iterdir())


def test_a_zip_whose_members_are_larger_than_the_disk(tmp_path, out, monkeypatch):
    archive = pack(tmp_path / "a.zip", {name: bytes(1000) for name in "abc"})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2999))
    assert f"the disk of {out} has 0.0 GB free: free disk space" in refusal(archive, out)
    assert not list(out.iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3000))
    unpack(archive, out)


def test_a_tar_with_a_circular_offset(tmp_path, out):
    member = tarfile.TarInfo("again")
    member.size = -512
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    assert "-512 bytes" in refusal(tmp_path / "a.tar", out)


def test_a_link_to_a_missing_member(tmp_path, out):
    """tarfile raises a KeyError here."""
    member = tarfile.TarInfo("link")
    member.type, member.linkname = tarfile.LNKTYPE, "nothing"
    (tmp_path / "a.tar").write_bytes(member.tobuf() + bytes(1024))
    assert "'nothing' not found" in refusal(tmp_path / "a.tar", out)


def test_links_too_deep_to_be_resolved(tmp_path, out):
    """CVE-2025-4517: tarfile's own filter accepts a link whose path is too long to be resolved."""
    (tmp_path / "secret").write_text("secret")
    folder, step = "d" * 247, ""
    with tarfile.open(tmp_path / "a.tar", "w") as archive:

        def add(name: str, kind: bytes, target: str = "") -> None:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)

        for letter in "abcdefghijklmnop":
            add(f"{step}{folder}", tarfile.DIRTYPE)
            add(f"{step}{letter}", tarfile.SYMTYPE, folder)
            step += f"{letter}/"
        add(f"{step}{'l' * 254}", tarfile.SYMTYPE, "../" * 16)
        add("escape", tarfile.SYMTYPE, f"{step}{'l' * 254}/../..")
        add("stolen", tarfile.LNKTYPE, "escape/secret")
    refusal(tmp_path / "a.tar", out)
    assert not (out / "stolen").exists()


def test_a_zip_symlink(tmp_path, out):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        member = zipfile.ZipInfo("evil")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    assert "'evil'" in refusal(tmp_path / "a.zip", out)
    assert not list(out.iterdir())


def test_a_tar_is_read_in_one_pass(tmp_path, out, monkeypatch):
    """A second pass over a gzip stream would rewind it."""
    rewound = []
    monkeypatch.setattr(gzip._GzipReader, "_rewind", lambda reader: rewound.append(reader))
    unpack(pack(tmp_path / "a.tgz"), out)
    assert contents(out) == FILES
    assert not rewound
