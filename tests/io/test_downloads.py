"""Downloads: every fault of a server ends in the right file or in one error line, and the next run recovers."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE
from types import SimpleNamespace

import pytest

from delta.io.downloads import Downloads
from delta.io.errors import UserError
from delta.io.remote_file import RemoteFile
from tests.helpers.loopback import Fault, Loopback

ROOT = Path(__file__).parents[2]
CONTENT = random.Random(0).randbytes(5000)
MD5, SHA256 = (f"{name}:{hashlib.new(name, CONTENT).hexdigest()}" for name in ("md5", "sha256"))
DIGEST_PREFIX = SHA256[:15]
PATH = "/base/a.tar"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


@pytest.fixture
def server():
    with Loopback({PATH: CONTENT}) as server:
        yield server


@pytest.fixture
def downloads(tmp_path) -> Downloads:
    return Downloads(tmp_path / "archives", tmp_path / "sums/checksums.txt", retries=3, timeout=0.3)


def remote(server: Loopback, checksum: str | None = MD5, **more) -> RemoteFile:
    return RemoteFile(server.url + PATH, checksum, **more)


def refusal(downloads: Downloads, file: RemoteFile) -> str:
    with pytest.raises(UserError) as error:
        downloads.fetch(file)
    assert "\n" not in str(error.value)
    return str(error.value)


def record(downloads: Downloads, digest: str = SHA256) -> None:
    downloads.checksums.parent.mkdir(exist_ok=True)
    downloads.checksums.write_text(f"{digest.removeprefix('sha256:')}  a.tar\n")


def assert_fetched(downloads: Downloads, path: Path) -> None:
    assert path.read_bytes() == CONTENT
    assert [file.name for file in downloads.folder.iterdir()] == [path.name]


@pytest.mark.parametrize("checksum", [MD5, MD5.upper().replace("MD5", "md5"), SHA256, DIGEST_PREFIX, None])
def test_a_file_is_downloaded(server, downloads, checksum):
    path = downloads.fetch(remote(server, checksum))
    assert path == downloads.folder / "a.tar"
    assert_fetched(downloads, path)
    assert downloads.checksums.exists() == (checksum in (DIGEST_PREFIX, None))
    assert downloads.fetch(remote(server, checksum)) == path
    assert len(server.asked(PATH)) == 1


def test_file_names_come_from_urls():
    assert RemoteFile("http://host/a%20b/c%20d.tar?x=1").name == "c d.tar"
    assert RemoteFile("http://host/images.tar", saved_as="dogs.tar").name == "dogs.tar"


@pytest.mark.parametrize(
    "faults",
    {
        "unavailable": [Fault(status=503)] * 3,
        "too many requests": [Fault(status=429)],
        "refused range": [Fault(cut=1000), Fault(status=416)],
        "no range": [Fault(cut=1000), Fault(no_range=True, cut=900), Fault(no_range=True)],
        "wrong bytes": [Fault(body=b"<html>sorry</html>")],
        "empty": [Fault(body=b"")],
        "wrong and cut": [Fault(body=b"x" * 4000, cut=2000)],
        "no version": [Fault(cut=1000, no_version=True)],
        "no length": [Fault(no_length=True)],
        "no length, cut": [Fault(no_length=True, cut=1000)],
        "trickle": [Fault(trickle=0.001)],
        "redirect": [Fault(location=PATH)] * 2,
    }.values(),
)
def test_one_run_recovers_from_temporary_faults(server, downloads, faults):
    server.misbehave(PATH, *faults)
    assert_fetched(downloads, downloads.fetch(remote(server)))
    assert len(server.asked(PATH)) >= len(faults)


@pytest.mark.parametrize("fault", [Fault(cut=3000), Fault(stall=3000)])
@pytest.mark.parametrize("checksum", [MD5, None])
def test_a_download_resumes_where_it_was_cut(server, downloads, fault, checksum):
    server.misbehave(PATH, fault, replace(fault, cut=fault.cut and 500, stall=fault.stall and 500))
    assert_fetched(downloads, downloads.fetch(remote(server, checksum)))
    asked = server.asked(PATH)
    assert [headers["Range"] for headers in asked] == [None, "bytes=3000-", "bytes=3500-"]
    assert asked[0]["If-Range"] is None
    assert asked[1]["If-Range"] == asked[2]["If-Range"] != None  # noqa: E711


def test_a_changed_file_is_downloaded_from_the_beginning(server, downloads):
    """Without a checksum, only If-Range prevents a file that is half old and half new."""
    server.misbehave(PATH, Fault(body=b"old" * 1000, cut=2000))
    assert_fetched(downloads, downloads.fetch(remote(server, None)))
    assert server.asked(PATH)[1]["Range"] == "bytes=2000-"


def test_without_checksum_and_etag_a_cut_download_starts_again(server, downloads):
    server.misbehave(PATH, Fault(cut=2000, no_version=True))
    assert_fetched(downloads, downloads.fetch(remote(server, None)))
    assert server.asked(PATH)[1]["Range"] is None


ALWAYS = {
    "404": (
        Fault(status=404),
        "404 Not Found: put the file as a.tar into .*archives yourself, or set downloads.mirror",
    ),
    "403": (Fault(status=403), "403 Forbidden"),
    "410": (Fault(status=410), "410 Gone"),
    "500": (Fault(status=500), "500 Internal Server Error, 4 times in a row"),
    "cut": (Fault(cut=0), "IncompleteRead.*, 4 times in a row: run again later, put the file"),
    "stall": (Fault(stall=0), "timed out, 4 times in a row"),
    "wrong": (Fault(body=b"x"), f"a.tar has the md5 {hashlib.md5(b'x').hexdigest()}, the published one is {MD5[4:]}"),
    "loop": (Fault(location=PATH), "redirects"),
    "elsewhere": (Fault(location="ftp://127.0.0.1/a.tar"), "ftp"),
}


@pytest.mark.parametrize(("fault", "message"), ALWAYS.values(), ids=ALWAYS)
def test_permanent_faults_are_one_line_and_the_next_run_recovers(server, downloads, fault, message):
    server.misbehave(PATH, fault, always=True)
    with pytest.raises(UserError, match=message) as error:
        downloads.fetch(remote(server))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(server.url + PATH)
    assert not (downloads.folder / "a.tar").exists()
    if fault.status and fault.status < 500:
        assert len(server.asked(PATH)) == 1
    server.misbehave(PATH)
    assert_fetched(downloads, downloads.fetch(remote(server)))


def test_an_unreachable_server(downloads):
    with Loopback({}) as server:
        pass
    assert "Connection refused, 4 times in a row" in refusal(downloads, remote(server))
    assert not (downloads.folder / "a.tar").exists()


@pytest.mark.parametrize("known", ["published", "prefix", "recorded", "unknown"])
def test_the_next_run_resumes_if_a_checksum_is_known(server, downloads, known):
    checksum = {"published": MD5, "prefix": DIGEST_PREFIX}.get(known)
    if known == "recorded":
        record(downloads)
    server.misbehave(PATH, Fault(cut=3000))
    refusal(replace(downloads, retries=0), remote(server, checksum))
    assert [file.name for file in downloads.folder.iterdir()] == [".a.tar.partial"]
    assert_fetched(downloads, downloads.fetch(remote(server, checksum)))
    assert server.asked(PATH)[1]["Range"] == (None if known == "unknown" else "bytes=3000-")


@pytest.mark.parametrize("rubbish", [b"x" * 100, b"x" * len(CONTENT), b"x" * 9999])
def test_a_damaged_partial_file_is_deleted(server, downloads, rubbish):
    downloads.folder.mkdir()
    (downloads.folder / ".a.tar.partial").write_bytes(rubbish)
    assert_fetched(downloads, downloads.fetch(remote(server)))


@pytest.mark.parametrize("checksum", [None, DIGEST_PREFIX])
def test_the_first_checksum_is_recorded_and_later_ones_must_match(server, downloads, checksum):
    record(downloads, "0" * 64)
    downloads.checksums.write_text(f"{'0' * 64}  b.tar\n{'1' * 64}  Z.tar\n")
    path = downloads.fetch(remote(server, checksum))
    lines = [f"{'1' * 64}  Z.tar", f"{SHA256[7:]}  a.tar", f"{'0' * 64}  b.tar"]
    assert downloads.checksums.read_text().splitlines() == lines
    path.unlink()
    assert_fetched(downloads, downloads.fetch(remote(server, checksum)))
    path.unlink()
    record(downloads, "2" * 64)
    message = refusal(downloads, remote(server, checksum))
    assert all(part in message for part in ("a.tar", SHA256[7:], "2" * 64, str(downloads.checksums), "delete its line"))
    assert not path.exists()
    assert len(server.asked(PATH)) == 6


def test_a_file_with_a_wrong_digest_prefix_is_not_recorded(server, downloads):
    assert "the published one is 12345678" in refusal(downloads, remote(server, "sha256:12345678"))
    assert not downloads.checksums.exists()


def test_a_damaged_checksum_record_is_reported(server, downloads):
    record(downloads)
    with downloads.checksums.open("a") as file:
        file.write("<<<<<<< HEAD\n")
    assert f"{downloads.checksums}:2" in refusal(downloads, remote(server))
    assert not server.asked(PATH)


@pytest.mark.parametrize("checksum", [MD5, DIGEST_PREFIX, None])
def test_a_file_in_the_folder_needs_no_network(server, downloads, checksum):
    downloads.folder.mkdir()
    path = downloads.folder / "a.tar"
    record(downloads)
    path.write_bytes(CONTENT)
    assert downloads.fetch(remote(server, checksum)) == path
    path.write_bytes(b"mine")
    message = refusal(downloads, remote(server, checksum))
    assert message.startswith(f"{path}: ") and "delete the file" in message
    assert path.read_bytes() == b"mine"
    assert not server.asked(PATH)


@pytest.mark.parametrize("as_url", [True, False])
def test_a_local_mirror_is_used_in_place(server, downloads, tmp_path, as_url):
    mirror = tmp_path / "the mirror"
    mirror.mkdir()
    downloads = replace(downloads, mirror=mirror.as_uri() if as_url else str(mirror))
    file = remote(server, saved_as="b 1.tar")
    assert refusal(downloads, file).startswith(f"{mirror / 'b 1.tar'}: no such file")
    (mirror / "b 1.tar").write_bytes(CONTENT)
    assert downloads.fetch(file) == mirror / "b 1.tar"
    (mirror / "b 1.tar").write_bytes(b"wrong")
    assert refusal(downloads, file).startswith(f"{mirror / 'b 1.tar'}: b 1.tar has the md5")
    assert not downloads.folder.exists()
    assert not server.asked(PATH)


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_http_mirror(tmp_path, downloads, slash):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/b 1.tar").write_bytes(CONTENT)
    with Loopback(tmp_path) as server:
        downloads = replace(downloads, mirror=f"{server.url}/mirror{slash}")
        file = RemoteFile("http://published.invalid/a.tar", MD5, saved_as="b 1.tar")
        assert_fetched(downloads, downloads.fetch(file))
        assert len(server.asked("/mirror/b 1.tar")) == 1
        assert "404" in refusal(downloads, replace(file, saved_as="c.tar"))


def test_a_file_url(tmp_path, downloads):
    (tmp_path / "a.tar").write_bytes(CONTENT)
    assert downloads.fetch(RemoteFile((tmp_path / "a.tar").as_uri(), SHA256)) == tmp_path / "a.tar"


def test_other_protocols_are_refused(server, downloads):
    assert "ftp://host/a.tar" in refusal(downloads, RemoteFile("ftp://host/a.tar"))
    assert "downloads.mirror" in refusal(replace(downloads, mirror="s3://bucket"), remote(server))


def test_a_download_larger_than_the_disk_is_refused(server, downloads, monkeypatch):
    free = 2 * len(CONTENT) - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    message = refusal(downloads, remote(server))
    assert "GB" in message and str(downloads.folder) in message
    assert len(server.asked(PATH)) == 1
    assert not list(downloads.folder.iterdir())
    free += 1
    assert_fetched(downloads, downloads.fetch(remote(server)))


def test_a_folder_that_cannot_be_created(server, downloads, tmp_path):
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refusal(replace(downloads, folder=tmp_path / "file/archives"), remote(server))


FETCH = """
import sys
from pathlib import Path
from delta.io.downloads import Downloads
from delta.io.remote_file import RemoteFile
folder, url = sys.argv[1:]
print(Downloads(Path(folder, "archives"), Path(folder, "checksums")).fetch(RemoteFile(url)).read_bytes().hex())
"""


def test_processes_that_download_the_same_file_concurrently(tmp_path):
    """One process downloads and the others wait; without a checksum, nothing else detects a file written by two."""
    with Loopback({PATH: CONTENT, "/base/b.tar": CONTENT}) as server:
        server.misbehave(PATH, Fault(trickle=0.05), always=True)
        urls = [server.url + PATH] * 3 + [server.url + "/base/b.tar"]
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", FETCH, tmp_path, url], cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True
            )
            for url in urls
        ]
        said = [process.communicate(timeout=120) for process in processes]
        assert [process.returncode for process in processes] == [0] * 4
        assert all(output.splitlines() == [CONTENT.hex()] for output, _ in said)
        assert sum("waiting for another process that is downloading a.tar" in errors for _, errors in said) == 2
        assert len(server.asked(PATH)) == 1
    assert sorted(path.name for path in (tmp_path / "archives").iterdir()) == ["a.tar", "b.tar"]
    assert [line.split()[1] for line in (tmp_path / "checksums").read_text().splitlines()] == ["a.tar", "b.tar"]
