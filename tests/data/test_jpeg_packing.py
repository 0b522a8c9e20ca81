"""Data sets that are packed as JPEGs: Pillow's, of full chroma, close to the pixels, and read like raw ones."""

from __future__ import annotations

import io
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.JpegImagePlugin import get_sampling

from delta.data.packed.disk_array import DiskArray, JpegArray, open_images
from delta.data.packed.views import DefaultViewData, ImprovedViewData, normalised, random_crops
from delta.data.packing import pack_views, pack_whole, write_packed, write_packed_whole
from delta.io.errors import UserError
from delta.training.checkpoint import digest
from tests.helpers.tiny import CPU, CROP, RESIZE, SPEC, STATISTICS


@pytest.fixture(scope="module")
def folder(photographs, data, whole, tmp_path_factory) -> Path:
    """The tiny data set packed as JPEGs: `default` and `whole`."""
    root = tmp_path_factory.mktemp("jpegs")
    for name in ("default", "whole"):
        (root / name).mkdir()
    write_packed(photographs, data.index, RESIZE, CROP, root / "default", "jpeg")
    write_packed_whole(photographs, data.index, RESIZE, root / "whole", "jpeg")
    return root


def parts(file: Path) -> list[bytes]:
    """The images of a file of JPEGs: each starts with a marker that is nowhere else in one without a thumbnail."""
    return [b"\xff\xd8\xff" + part for part in file.read_bytes().split(b"\xff\xd8\xff")[1:]]


def as_jpeg(pixels: np.ndarray) -> bytes:
    Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def decoded(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)))


@pytest.mark.parametrize("name", ["default/train_view", "default/test_view", "whole/images"])
def test_the_files_are_jpegs_of_the_raw_pixels_one_after_the_other(name, folder, data, whole):
    if name == "whole/images":
        raw = [image for row in range(len(whole.index)) for image in whole._training_images(np.array([row]))]
    else:
        view = getattr(data, name.partition("/")[2])
        raw = [view[row] for row in range(len(view))]
    found = parts(folder / f"{name}.mjpeg")
    assert found == [as_jpeg(pixels) for pixels in raw]
    assert {get_sampling(Image.open(io.BytesIO(jpeg))) for jpeg in found} == {0}  # 4:4:4
    assert np.load(folder / f"{name}.ends.npy").tolist() == np.cumsum([len(jpeg) for jpeg in found]).tolist()
    stored = JpegArray(folder / f"{name}.mjpeg")
    assert len(stored) == len(raw) > 10
    for row, pixels in enumerate(raw):
        assert np.array_equal(stored[row], decoded(found[row]))
        assert stored[row].shape == pixels.shape
        assert np.abs(stored[row].astype(int) - pixels).mean() < 4  # of noise, which JPEGs keep worst


def test_jpegs_take_a_fraction_of_the_bytes_of_a_smooth_image(tmp_path):
    pixels = np.linspace(0, 255, 200 * 150 * 3).reshape(200, 150, 3).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for packing in ("raw", "jpeg"):
        pack_views(tmp_path, ["a.png"], [True], 96, 80, tmp_path, packing=packing)
    raw, jpeg = (sum((tmp_path / f"{n}{end}").stat().st_size for n in ("train_view", "test_view")) for end in ENDINGS)
    assert jpeg < raw / 6


ENDINGS = (".npy", ".mjpeg")


@pytest.mark.parametrize("workers", [1, 3])
def test_the_bytes_do_not_depend_on_the_number_of_workers(workers, folder, photographs, data, tmp_path):
    paths, is_train = list(data.index["path"]), list(data.index["split"] == "train")
    pack_views(photographs, paths, is_train, RESIZE, CROP, tmp_path, workers, "jpeg")
    sizes = pack_whole(photographs, paths, RESIZE, tmp_path, workers, "jpeg")
    for name in ("default/train_view", "default/test_view", "whole/images"):
        for ending in ("mjpeg", "ends.npy"):
            file = f"{Path(name).name}.{ending}"
            assert (tmp_path / file).read_bytes() == (folder / f"{name}.{ending}").read_bytes()
    whole = ImprovedViewData.open(folder / "whole", CROP)
    assert sizes == list(zip(whole.index["height"], whole.index["width"], strict=True))


@pytest.mark.parametrize("rows", [slice(0, 5), slice(3, 3), slice(12, 99), np.array([7, 0, 7]), np.array([], int), 3])
def test_rows_equal_those_of_an_array(rows, folder):
    stored = open_images(folder / "default", "train_view")
    assert isinstance(stored, JpegArray)
    whole = np.stack([decoded(jpeg) for jpeg in parts(folder / "default/train_view.mjpeg")])
    assert len(stored[rows]) == len(whole[rows])
    assert np.array_equal(stored[rows], whole[rows]) or not len(whole[rows])
    with pytest.raises(IndexError):
        stored[len(whole)]


def test_the_default_view_reads_them(folder, data):
    jpegs = DefaultViewData.open(folder / "default")
    train, test = (parts(folder / f"default/{name}.mjpeg") for name in ("train_view", "test_view"))
    assert jpegs.index.equals(data.index)
    images = jpegs.training_images(torch.tensor([4, 0, 11]))
    assert all(np.array_equal(image, decoded(train[row])) for image, row in zip(images, (4, 0, 11), strict=True))
    assert random_crops(images, CROP, torch.Generator(), CPU).shape == (3, CROP, CROP, 3)
    crops = torch.cat([crops for crops, _ in jpegs.test_batches("test", SPEC, 4, CPU)])
    by_hand = torch.from_numpy(np.stack([decoded(test[row]) for row in data.rows("test")]))
    assert torch.equal(crops, normalised(by_hand, STATISTICS))


def test_the_improved_view_reads_them(folder, whole):
    jpegs, pictures = ImprovedViewData.open(folder / "whole", CROP), parts(folder / "whole/images.mjpeg")
    rows = whole.rows("train")
    for image, row in zip(jpegs.training_images(torch.arange(len(rows))), rows, strict=True):
        assert np.array_equal(image, decoded(pictures[row]))
    crops = torch.cat([crops for crops, _ in jpegs.test_batches("test", SPEC, 20, CPU)])
    assert len(crops) == 10 * len(whole.rows("test"))
    corner = decoded(pictures[whole.rows("test")[3]])[:CROP, :CROP]
    assert torch.equal(crops[30:31], normalised(torch.from_numpy(corner[None].copy()), STATISTICS))


def test_an_image_too_long_for_a_jpeg_is_reported(tmp_path):
    Image.new("L", (20_000, 10)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a.png \(too elongated for a JPEG: 80000 × 40 pixels\)"):
        pack_whole(tmp_path, ["a.png"], 40, tmp_path, packing="jpeg")


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("default/test_view.mjpeg", lambda file: file[:-1], r"test_view.mjpeg has [\d,]+ bytes instead of"),
        ("default/test_view.ends.npy", lambda file: file[:-8], "not a packed data set"),
        ("default/test_view.ends.npy", lambda file: file.replace(b"<i8", b"<u8"), "test_view.ends.npy has no places"),
        ("default/train_view.ends.npy", lambda file: file[:-8] + file[-16:-8], "train_view.ends.npy has no places"),
        ("default/index.csv", lambda text: text.replace(b"train", b"test", 1), "train_view.mjpeg has 12 images, .* 11"),
        ("whole/images.mjpeg", lambda file: file + b"x", r"images.mjpeg has [\d,]+ bytes instead of"),
        ("whole/images.ends.npy", lambda file: b"PK" + file, "not a packed data set"),
        ("whole/index.csv", lambda text: text[: text[:-1].rindex(b"\n") + 1], r"has 18 images, index.csv 17"),
    ],
)
def test_a_damaged_data_set_is_reported(name, damage, message, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    file = tmp_path / "copy" / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=message) as error:
        DefaultViewData.open(file.parent) if "default" in name else ImprovedViewData.open(file.parent, CROP)
    assert str(error.value).startswith(f"{file.parent}: not a packed data set (")


def test_a_damaged_image_is_reported(folder, tmp_path):
    shutil.copytree(folder / "default", tmp_path / "copy")
    file, ends = tmp_path / "copy/train_view.mjpeg", np.load(tmp_path / "copy/train_view.ends.npy")
    content = bytearray(file.read_bytes())
    content[ends[2]] = 0
    small = as_jpeg(np.zeros((8, 8, 3), np.uint8))
    content[ends[4] : ends[4] + len(small)] = small
    file.write_bytes(content)
    stored = JpegArray(file)
    assert np.array_equal(stored[2], open_images(folder / "default", "train_view")[2])
    with pytest.raises(UserError, match=r"train_view.mjpeg: image 3 is damaged \(.+\): run `dvc repro`$"):
        stored[np.array([0, 3])]
    with pytest.raises(UserError, match="train_view.mjpeg: has images of different sizes: run `dvc repro`$"):
        stored[np.array([0, 5])]


def test_a_file_that_changes_is_noticed(folder, tmp_path):
    shutil.copytree(folder / "default", tmp_path / "copy")
    stored = open_images(tmp_path / "copy", "test_view")
    assert stored[3].shape == (CROP, CROP, 3)
    os.truncate(tmp_path / "copy/test_view.mjpeg", 5000)
    with pytest.raises(UserError, match="test_view.mjpeg: was changed while this run was reading it"):
        stored[17]


def test_a_digest_depends_on_every_byte_and_place(folder, data, tmp_path):
    shutil.copytree(folder / "default", tmp_path / "copy")
    digests = {digest(data), digest(DefaultViewData.open(folder / "default"))}
    assert digest(DefaultViewData.open(tmp_path / "copy")) in digests
    file = tmp_path / "copy/test_view.mjpeg"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    digests.add(digest(DefaultViewData.open(tmp_path / "copy")))
    jpegs = DefaultViewData.open(folder / "default")
    moved = JpegArray(folder / "default/test_view.mjpeg")
    moved.ends = moved.ends - np.eye(len(moved), dtype=np.int64)[3]
    digests.add(digest(replace(jpegs, test_view=moved)))
    assert len(digests) == 4


def test_blocks_are_the_bytes_of_the_file_that_was_opened(tmp_path, monkeypatch):
    monkeypatch.setattr("delta.data.packed.disk_array._BLOCK", 1000)
    pixels = np.random.default_rng(0).integers(256, size=(7, 11, 13, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    stored = DiskArray.npy(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", 255 - pixels)
    (tmp_path / "b.npy").replace(tmp_path / "a.npy")
    assert b"".join(block.tobytes() for block in stored.blocks()) == pixels.tobytes()
    assert digest(stored) != digest(DiskArray.npy(tmp_path / "a.npy"))
    changing = DiskArray.npy(tmp_path / "a.npy")
    os.utime(tmp_path / "a.npy", (1, 1))
    with pytest.raises(UserError, match="a.npy: was changed while this run was reading it"):
        list(changing.blocks())
