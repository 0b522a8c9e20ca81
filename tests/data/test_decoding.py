"""Image files of every kind become what a viewer shows: upright, in their colours, on white."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps

from delta.data.images import ONE_COLOUR, SEVERAL_FRAMES, decode, decode_with_remarks, readable_suffixes
from tests.helpers.heic import write_heic

NOISE = Image.fromarray(np.random.default_rng(0).integers(256, size=(30, 50, 3), dtype=np.uint8))
ALPHA = np.random.default_rng(1).integers(256, size=(30, 50), dtype=np.uint8)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    opaque = alpha[..., None] / 255
    return opaque * pixels + (1 - opaque) * 255


@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.webp"])
def test_transparency_is_laid_over_white(tmp_path, name):
    picture = NOISE.copy()
    picture.putalpha(Image.fromarray(ALPHA))
    picture.save(tmp_path / name, **({"lossless": True, "exact": True} if name == "a.webp" else {}))
    assert np.allclose(decode(tmp_path / name), on_white(np.asarray(NOISE), ALPHA), atol=1)


def test_grey_with_transparency_is_laid_over_white(tmp_path):
    grey = NOISE.convert("L")
    Image.merge("LA", (grey, Image.fromarray(ALPHA))).save(tmp_path / "a.png")
    expected = on_white(np.asarray(grey)[..., None].repeat(3, 2), ALPHA)
    assert np.allclose(decode(tmp_path / "a.png"), expected, atol=1)


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_a_transparent_colour_of_a_palette_is_white(tmp_path, suffix):
    palette = NOISE.quantize(16)
    palette.save(tmp_path / f"a.{suffix}", transparency=3)
    expected = np.asarray(palette.convert("RGB")).copy()
    expected[np.asarray(palette) == 3] = 255
    assert np.array_equal(decode(tmp_path / f"a.{suffix}"), expected)


@pytest.mark.parametrize(("mode", "colour"), [("L", 100), ("RGB", NOISE.getpixel((3, 3)))])
def test_a_transparent_colour_is_white(tmp_path, mode, colour):
    picture = NOISE.convert(mode)
    picture.save(tmp_path / "a.png", transparency=colour)
    expected = np.asarray(picture.convert("RGB")).copy()
    expected[(expected == colour).all(-1)] = 255
    assert np.array_equal(decode(tmp_path / "a.png"), expected)


DEEP = (3000 + 100 * np.arange(1500).reshape(30, 50) % 40_000).astype(np.float64)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("a.png", DEEP.astype(np.uint16)),
        ("a.tif", DEEP.astype(np.uint16)),
        ("big_endian.tif", DEEP.astype(">u2")),
        ("a.pgm", DEEP.astype(np.uint16)),
        ("integers.tif", DEEP.astype(np.int32) - 20_000),
        ("floats.tif", (DEEP / 65_535).astype(np.float32)),
        ("small.tif", (1e-30 * DEEP).astype(np.float32)),
    ],
)
def test_deep_grey_is_stretched_to_8_bits(tmp_path, name, values):
    """Whatever the depth, a picture's smallest value is black and its largest white, and the others lie between."""
    Image.fromarray(values).save(tmp_path / name)
    expected = 255 * (DEEP - DEEP.min()) / (DEEP.max() - DEEP.min())
    assert np.allclose(decode(tmp_path / name), expected[..., None], atol=0.51)


def test_values_that_are_not_finite(tmp_path):
    values = np.array([[1, 2, 3], [np.nan, np.inf, -np.inf]], np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.asarray(decode(tmp_path / "a.tif"))[..., 0].tolist() == [[0, 128, 255], [0, 255, 0]]
    Image.fromarray(np.full((2, 2), np.nan, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="no pixel has a finite value"):
        decode(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"a.{suffix}"
    NOISE.save(file, exif=exif)
    with Image.open(file) as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    assert np.array_equal(decode(file), expected)


def with_exif(*entries: bytes) -> bytes:
    """A JPEG of NOISE with these entries of 12 bytes in its EXIF data."""
    NOISE.save(buffer := io.BytesIO(), "JPEG")
    jpeg = buffer.getvalue()
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(sorted(entries)) + bytes(4)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


@pytest.mark.parametrize(
    "entry",
    [
        struct.pack("<HHI4s", 0x11A, 2, 3, b"72\0\0"),  # the resolution as text
        struct.pack("<HHI4s", 0x100, 2, 4, b"640\0"),  # the width as text
        struct.pack("<HHIf", 0x100, 11, 1, 60.0),  # the width as a floating-point number
        struct.pack("<HHIi", 0x101, 9, 1, -5),  # a negative height
        struct.pack("<HHII", 0x9286, 7, 99_999, 8),  # a comment that lies beyond the file
        struct.pack("<HHII", 0x8769, 4, 1, 70_000),  # further entries that lie beyond the file
        struct.pack("<HHII", 0x9999, 99, 1, 0),  # a type that there is not
    ],
)
def test_only_the_orientation_is_read_of_the_exif_data(tmp_path, entry):
    """Other entries may be nonsense, as cameras and editors write it."""
    turned = struct.pack("<HHIHH", 0x112, 3, 1, 6, 0)
    (tmp_path / "odd.jpg").write_bytes(with_exif(turned, entry))
    (tmp_path / "plain.jpg").write_bytes(with_exif(turned))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own of a damaged entry
        found = decode(tmp_path / "odd.jpg")
    assert found.size == (30, 50)
    assert np.array_equal(found, decode(tmp_path / "plain.jpg"))


@pytest.mark.parametrize("value", [0, 9, 65_535])
def test_an_orientation_that_there_is_not_turns_nothing(tmp_path, value):
    (tmp_path / "a.jpg").write_bytes(with_exif(struct.pack("<HHIHH", 0x112, 3, 1, value, 0)))
    assert decode(tmp_path / "a.jpg").size == NOISE.size


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_read_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = NOISE.resize((96, 64))
    write_heic(tmp_path / "a.heic", picture, orientation)
    picture.save(tmp_path / "a.png", exif=exif)
    found, expected = (np.asarray(decode(tmp_path / name), float) for name in ("a.heic", "a.png"))
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 2


def test_reading_heic_leaves_pillow_as_it_was(tmp_path):
    write_heic(tmp_path / "a.heic", NOISE)
    decode(tmp_path / "a.heic")
    assert "HEIF" not in Image.OPEN
    assert ".heic" not in Image.registered_extensions()
    assert {".heic", ".HEIC".lower(), ".jpg", ".mpo"} <= readable_suffixes()


def test_a_damaged_heic_is_named_as_such(tmp_path):
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200))
    with pytest.raises(ValueError, match="damaged HEIC"):
        decode(tmp_path / "a.HEIC")
    write_heic(tmp_path / "b.heic", NOISE)
    (tmp_path / "b.heic").write_bytes((tmp_path / "b.heic").read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged HEIC"):
        decode(tmp_path / "b.heic")


def test_an_enormous_heic_is_refused(tmp_path, monkeypatch):
    write_heic(tmp_path / "a.heic", NOISE.resize((96, 64)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    with pytest.raises(Image.DecompressionBombError, match="96 × 64"):
        decode(tmp_path / "a.heic")


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_the_first_frame_is_taken_and_said(tmp_path, suffix):
    frames = [NOISE.quantize(64).convert("RGB"), Image.new("RGB", NOISE.size, "red")]
    file = tmp_path / f"a.{suffix}"
    frames[0].save(file, save_all=True, append_images=frames[1:], **({"lossless": True} if suffix == "webp" else {}))
    found = decode_with_remarks(file)
    assert found.remarks == (SEVERAL_FRAMES,)
    assert np.array_equal(found.image, frames[0])
    frames[0].save(file)
    assert decode_with_remarks(file).remarks == ()


def test_a_photograph_with_further_pictures_is_one_picture(tmp_path):
    """Phones write a second exposure or a small copy into a JPEG."""
    NOISE.save(tmp_path / "a.mpo", save_all=True, append_images=[NOISE])
    with Image.open(tmp_path / "a.mpo") as image:
        assert image.n_frames == 2
    assert decode_with_remarks(tmp_path / "a.mpo").remarks == ()


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "I;16", "F", "CMYK", "RGBA"])
def test_a_picture_of_one_colour_is_said(tmp_path, mode):
    Image.new(mode, (9, 9), 1).save(tmp_path / "a.tif")
    assert decode_with_remarks(tmp_path / "a.tif").remarks == (ONE_COLOUR,)


def test_what_pillow_only_recognises_is_no_image():
    assert not {".h5", ".hdf", ".grib", ".bufr", ".mpg", ".mpeg", ".eps", ".wmf", ".pdf"} & readable_suffixes()
