"""What counts as an image in a folder, and what is left out and said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from delta.data.image_files import find_images


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(root: Path, paths: list[Path]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_hidden_and_system_folders_are_left_out(tmp_path):
    touch(tmp_path, "a.jpg", "old/b.JPG")
    left_out = [
        ".thumbnails/a.jpg",
        "old/.ipynb_checkpoints/b-checkpoint.jpg",
        "@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg",
        "__MACOSX/old/._b.jpg",
        "$RECYCLE.BIN/c.jpg",
        "Thumbnails/a.jpg",
        "old/thumbs/b.jpg",
        "Thumbs.db",
        "old/.DS_Store",
        "._a.jpg",
    ]
    touch(tmp_path, *left_out)
    found = find_images(tmp_path)
    assert names(tmp_path, found.images) == ["a.jpg", "old/b.JPG"]
    assert {name.split("/")[0] for name in names(tmp_path, found.hidden)} == {name.split("/")[0] for name in left_out}
    assert len(found.hidden) == len(left_out)
    (sentence,) = found.left_out(tmp_path)
    assert sentence.startswith("left out 10 hidden, system or thumbnail file(s) and folder(s): $RECYCLE.BIN, ")
    assert sentence.endswith(" and 5 more")


def test_other_files_are_counted_by_their_suffix(tmp_path):
    touch(tmp_path, "a.jpg", "a.jpg.xmp", "clip.MOV", "b/clip.mov", "b/notes", "data.h5", "film.mpg", "paper.pdf")
    found = find_images(tmp_path)
    assert names(tmp_path, found.images) == ["a.jpg"]
    (sentence,) = found.left_out(tmp_path)
    assert sentence.startswith("left out 7 file(s) that are no images: .mov (2), ")
    assert "without suffix (1)" in sentence
    assert ": a.jpg.xmp, b/clip.mov, b/notes, clip.MOV, data.h5 and 2 more" in sentence


def test_heic_is_an_image_also_where_it_is_broken(tmp_path):
    touch(tmp_path, "IMG_1.HEIC", "IMG_2.heif")
    assert names(tmp_path, find_images(tmp_path).images) == ["IMG_1.HEIC", "IMG_2.heif"]


def test_contents_decide_for_a_file_without_suffix(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "scan", "PNG")
    (tmp_path / "README").write_text("no image")
    found = find_images(tmp_path)
    assert (found.images, found.others) == ([tmp_path / "scan"], [tmp_path / "README"])


def test_links_to_files_are_followed_and_those_to_folders_named(tmp_path):
    touch(tmp_path, "store/1.jpg", "photographs/2.jpg")
    photographs = tmp_path / "photographs"
    (photographs / "1.jpg").symlink_to(tmp_path / "store/1.jpg")
    (photographs / "more").symlink_to(tmp_path / "store")
    (photographs / "loop").symlink_to(photographs)
    (photographs / "3.jpg").symlink_to(tmp_path / "gone.jpg")
    found = find_images(photographs)
    assert names(photographs, found.images) == ["1.jpg", "2.jpg", "3.jpg"]
    assert found.left_out(photographs) == ["left out 2 linked folder(s): loop, more"]


def test_what_is_no_file_is_not_read(tmp_path):
    touch(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")  # reading it would wait for ever
    found = find_images(tmp_path)
    assert (found.images, found.others) == ([tmp_path / "a.jpg"], [tmp_path / "pipe.jpg"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_an_error(tmp_path):
    touch(tmp_path, "closed/a.jpg")
    (tmp_path / "closed").chmod(0)
    with pytest.raises(PermissionError, match="closed"):
        find_images(tmp_path)
    (tmp_path / "closed").chmod(0o755)
