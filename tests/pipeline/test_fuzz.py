"""Fuzz tests: a file from a user or a publisher is read correctly or refused with one line.

CASES has the number of cases of `pytest -m slice`; the quick tests run one in twenty of them.
"""

from __future__ import annotations

import io
import os
import pickle
import shutil
import struct
import subprocess
import tarfile
import zipfile
import zlib
from datetime import date
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import yaml
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from delta.analysis.concepts import Concepts
from delta.analysis.grid_result import cells, read_grid
from delta.analysis.map_files import METHODS, ActivationMaps, read_maps, write_maps
from delta.analysis.parts import to_upright_pixels
from delta.attention.normalization import channel_weights
from delta.data.listing import read_images, read_parts
from delta.data.packed.views import DefaultViewData, ImprovedViewData
from delta.data.packing import pack_views, pack_whole, write_packed_whole
from delta.datasets import cub_200_2011, fetching, folder
from delta.io.archives import unpack
from delta.io.downloads import Downloads
from delta.io.files import atomic_file, atomic_folder
from delta.io.remote_file import RemoteFile
from delta.methods.channel_weights import read_channel_weights, read_filter_table, write_channel_weights
from delta.methods.registry import KEYS, method_class
from delta.methods.selection import Selection
from delta.networks.network import Network, build_network, save_network, trained_network
from delta.networks.spec import BackboneSpec
from delta.report.curves import curve
from delta.report.results import gather, read_table
from delta.sources.weights import read_state
from delta.training.predictions import read_predictions
from delta.training.result import RunResult, TestView
from stages.common.params import Params, load_params
from tests.helpers import broden, published_archives
from tests.helpers.fuzzing import TOKENS, Sandbox, mutated

ROOT = Path(__file__).parents[2]
CASES = {
    "params, changed": 300,
    "params, damaged": 300,
    "labels, damaged": 200,
    "class folders": 150,
    "published lists": 100,  # for each of five files
    "parts": 150,
    "archives, damaged": 150,  # for each of three kinds
    "archives, generated": 150,  # for each of two kinds
    "images, damaged": 300,
    "images, of any size": 100,
    "checksums": 100,
    "packed": 150,  # for each of five files
    "tables": 100,  # for each of nine files
    "maps": 150,
    "concepts": 200,
    "weights, damaged": 150,  # for each of three kinds
    "weights, malicious": 150,
    "networks": 150,
}
SMALLEST = "test_resnet"  # the smallest architecture of timm


@pytest.fixture(params=[pytest.param(20, id="quick"), pytest.param(1, id="all", marks=pytest.mark.slice)])
def sandbox(request, tmp_path, monkeypatch) -> Sandbox:
    (tmp_path / "sandbox").mkdir()
    monkeypatch.chdir(tmp_path / "sandbox")
    return Sandbox(tmp_path / "sandbox", request.param)


# ---- parameters

TEXT = st.text(max_size=12) | st.sampled_from([token.decode("latin-1") for token in TOKENS])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 400),
    st.floats(),
    TEXT,
    st.dates(),
    st.sampled_from([10**30, -(2**63), "auto", "rest", "drawn", "timm:resnet18", "timm:", date(1, 1, 1), b"x"]),
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))


def places(tree: dict, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The paths of all values in nested dicts and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place for key, value in items for place in ((*before, key), *places(value, (*before, key)))]


def test_parameter_values_of_any_kind(sandbox):
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    file, all_places = sandbox.input / "params.yaml", places(yaml.safe_load(text))

    def read(changes: list) -> None:
        values = yaml.safe_load(text)
        for place, value, remove in changes:
            section = values
            try:
                for key in place[:-1]:
                    section = section[key]
                if remove:
                    del section[place[-1]]
                else:
                    section[place[-1]] = value
            except (KeyError, IndexError, TypeError):
                continue  # an earlier change removed this path
        file.write_text(yaml.dump(values), encoding="utf-8", errors="surrogatepass")
        params = load_params(file)
        assert isinstance(params, Params)
        assert set(params.methods) < set(KEYS)
        assert all(type(seed) is int and 0 <= seed < 2**31 for seed in params.seeds)
        assert {params.attention.seed, params.activation_maps.seed} <= {*params.seeds, "own"}
        assert all(32 <= view.crop <= view.resize for view in params.backbones.values())

    # Random values rarely have a valid type, so values of other parameters are tried as well.
    taken = st.sampled_from(all_places).map(lambda place: value_at(yaml.safe_load(text), place))
    change = st.tuples(st.sampled_from(all_places), VALUES | taken, st.sampled_from([False, False, False, True]))
    sandbox.fuzz(CASES["params, changed"], st.lists(change, min_size=1, max_size=2), [], read)


def value_at(tree: dict, place: tuple[str, ...]):
    for key in place:
        tree = tree[key]
    return tree


DOUBLED = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
STRANGE = [
    "a: &a [*a]",
    "seeds: &a [*a]",
    "a0: &a0 [0]\n" + DOUBLED + "seeds: *a11\nmethods: *a11\ndevice: !!pairs [a: *a11]",
    "a0: &a0 {}\n" + DOUBLED.replace("[", "{<<: [").replace("]", "]}"),
    "[" * 20_000,
    "{a: " * 2_000,
    "seeds: [0x" + "f" * 4_000 + "]",
    "seeds: [" + "1:" * 900 + "1]",
    *(f"device: !!{tag} x" for tag in ("int", "float", "map", "seq", "set", "omap", "binary", "timestamp", "bool")),
    "!!python/object/apply:os.system ['touch evil']",
    "device: !!python/name:os.system",
    'device: "a\\0b"',
    'device: "\\ud800"',
    '"a\\nb": 1',
    "device: 2026-13-45",
    "? {a: b}\n: c",
    "---\na: 1\n---\nb: 2",
]


def test_parameter_files_of_any_kind(sandbox):
    files = [path.read_bytes() for path in (ROOT / "params.yaml", *sorted((ROOT / "profiles").glob("*.yaml")))]
    strange = [f"{text}\n".encode() for text in STRANGE]

    def read(content: bytes) -> None:
        (sandbox.input / "params.yaml").write_bytes(content)
        assert isinstance(load_params(sandbox.input / "params.yaml"), Params)

    kinds = [
        mutated(*files),
        mutated(*strange),
        st.sampled_from([*strange, *(file + s for s in strange for file in files)]),
    ]
    sandbox.fuzz(CASES["params, damaged"], st.one_of(*kinds), files[0], read)


# ---- data sets


def picture(kind: str = "PNG", size: tuple[int, int] = (12, 9), mode: str = "RGB", seed: int = 0, **options) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, kind, **options)
    return file.getvalue()


def test_label_files(sandbox):
    images = sandbox.input / "images"
    images.mkdir()
    for seed, name in enumerate(["a.png", "b.png", "c d.png", "labels.csv"]):
        (images / name).write_bytes(picture(seed=seed))
    rows = ["path,label", "a.png,ant", "b.png,bee", '"c d.png","bee, honey"', "../images/a.png,007", "labels.csv,NA"]
    texts = [rows[:3], rows[:4], [rows[0], rows[2], rows[4]], rows, ["label,path", "ant,a.png", "bee,b.png"]]
    files = ["\n".join([*text, ""]).encode() for text in texts]
    files += [files[0].replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + files[1], files[0].decode().encode("utf-16")]
    originals = {path.read_bytes() for path in images.iterdir()}

    def read(content: bytes) -> None:
        (images / "list").write_bytes(content)
        with atomic_folder(sandbox.out / "set") as out:
            folder.copy_images(images / "list", out)
            table = folder.read(out)
        copies = {path.relative_to(sandbox.out / "set").as_posix() for path in (sandbox.out / "set").rglob("*.*")}
        assert copies == {*table["path"], folder.LABELS}
        assert all((sandbox.out / "set" / path).read_bytes() in originals for path in table["path"])
        assert table["label"].nunique() > 1 and (table["label"] != "").all()
        shutil.rmtree(sandbox.out / "set")

    sandbox.fuzz(CASES["labels, damaged"], mutated(*files) | st.sampled_from(files), files[1], read)


CLASSES = ["cat", "dog", "bird"]
SEGMENTS = st.one_of(
    st.sampled_from(
        [*CLASSES, "1.png", "2.jpg", ".hidden", "Thumbs.db", "labels.csv", "-rf", "a\nb.png", "é", "a" * 200]
    ),
    st.text("ab ._-\n\\\"';,é\u202e\udcff", min_size=1, max_size=6),
)
NAMES = (
    st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join).filter(lambda name: not {".", ".."} & {*name.split("/")})
)
PICTURES = [picture(), picture("JPEG"), picture("GIF"), picture("PNG", (1, 1), "L"), b"", b"no image"]


def test_class_folders(sandbox):
    source = sandbox.input / "photographs"

    def read(files: dict[str, bytes]) -> None:
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        for name, content in files.items():
            try:
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                (source / name).write_bytes(content)
            except OSError:
                continue  # a file is in the place of the folder
        with atomic_folder(sandbox.out / "set") as out:
            folder.copy_images(source, out)
            table = folder.read(out)
        for path, label in table[["path", "label"]].itertuples(index=False):
            assert (sandbox.out / "set" / path).read_bytes() == (source / path).read_bytes()
            assert label == path.split("/")[0]
        shutil.rmtree(sandbox.out / "set")

    names = NAMES | st.builds("{}/{}".format, st.sampled_from(CLASSES), NAMES)
    valid = {"cat/1.png": PICTURES[0], "dog/1.png": PICTURES[1]}
    changes = st.dictionaries(names, st.sampled_from(PICTURES) | mutated(*PICTURES[:3]), max_size=4)
    sandbox.fuzz(CASES["class folders"], changes.map(lambda more: valid | more), valid, read)


def published(format: str, root: Path) -> Path:
    """A miniature of a published data set, as the stage `download` writes it."""
    archives, out = root / "archives", root / format
    archives.mkdir()
    out.mkdir()
    published_archives.write(format, archives)
    downloads = Downloads(archives, root / "checksums")
    fetching.fetch(published_archives.facts(format, archives), downloads, out)
    return out


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("stanford_dogs", "train_list.mat"),
        ("mit_indoors", "TrainImages.txt"),
        ("cub_200_2011", "CUB_200_2011/images.txt"),
        ("cub_200_2011", "CUB_200_2011/image_class_labels.txt"),
        ("food_101", "food-101/meta/train.json"),
    ],
)
def test_published_lists(sandbox, format, name):
    root, facts = published(format, sandbox.input), published_archives.facts(format)
    valid, reader = (root / name).read_bytes(), import_module(f"delta.datasets.{format}")

    def read(content: bytes) -> None:
        (root / name).write_bytes(content)
        table = reader.read(root, facts)
        assert list(table) == ["path", "label", "split"]
        assert table["path"].is_unique and all((root / path).is_file() for path in table["path"])
        assert table["split"].value_counts().to_dict() == {"train": facts.train, "test": facts.test}
        assert table["label"].nunique() == facts.classes

    sandbox.fuzz(CASES["published lists"], mutated(valid), valid, read)


def test_published_parts(sandbox):
    root = published("cub_200_2011", sandbox.input)
    lists = root / "CUB_200_2011/parts"
    files = {name: (lists / name).read_bytes() for name in ("part_locs.txt", "parts.txt")}
    paths = pd.Series([path.relative_to(root).as_posix() for path in sorted(root.rglob("*.jpg"))])

    def read(changed: tuple[str, bytes]) -> None:
        for name, content in (files | dict([changed])).items():
            (lists / name).write_bytes(content)
        parts = to_upright_pixels(cub_200_2011.read_parts(root), paths, root)
        assert set(parts["path"]) <= set(paths)
        assert parts["visible"].dtype == bool
        assert parts["x"].between(0, parts["width"] - 1).all() and parts["y"].between(0, parts["height"] - 1).all()

    changes = [st.tuples(st.just(name), mutated(content)) for name, content in files.items()]
    sandbox.fuzz(CASES["parts"], st.one_of(changes), ("parts.txt", files["parts.txt"]), read)


# ---- archives


def unpacked(sandbox: Sandbox, archive: Path) -> None:
    """Unpack an archive, and check that it left only files, folders and links that stay inside."""
    out = sandbox.out / "set"
    with atomic_folder(out) as scratch:
        unpack(archive, scratch)
    assert list(sandbox.out.iterdir()) == [out]
    for path in out.rglob("*"):
        assert path.is_symlink() or path.is_file() or path.is_dir()
        assert path.resolve().is_relative_to(out.resolve())
    shutil.rmtree(out)


def tar(*members: tuple[tarfile.TarInfo, bytes], kind: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=kind) as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def member(
    name: str,
    content: bytes = b"",
    kind: bytes = tarfile.REGTYPE,
    link: str = "",
    size: int | None = None,
    pax: dict[str, str] | None = None,
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content) if size is None else size
    info.pax_headers = pax or {}
    return info, content


def plain_zip(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


FILES = {"set/a.txt": b"a" * 700, "set/b/c.txt": bytes(range(256)), "set/é": b"", "n" * 120: b"long"}
MEMBERS = [*(member(*item) for item in FILES.items()), member("set/link", kind=tarfile.SYMTYPE, link="a.txt")]


@pytest.mark.parametrize("name", ["a.tar", "a.tgz", "a.zip"])
def test_damaged_archives(sandbox, name):
    stored = plain_zip(FILES, zipfile.ZIP_STORED)
    files = {"a.tar": [tar(*MEMBERS)], "a.tgz": [tar(*MEMBERS, kind="w:gz")], "a.zip": [plain_zip(FILES), stored]}[name]

    def read(content: bytes) -> None:
        (sandbox.input / name).write_bytes(content)
        unpacked(sandbox, sandbox.input / name)

    sandbox.fuzz(CASES["archives, damaged"], mutated(*files), files[0], read)


@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_generated_archives(sandbox, name):
    outside = [str(sandbox.input.parent / "evil"), "../evil", "a/../../evil", "a/..", "/", ".", "", "a//b", "./a", "a/"]
    paths = st.sampled_from([*outside, "a", "a/b", "link", "link/a"]) | NAMES
    kinds = [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
    kinds += [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, b"?"]
    sizes = st.sampled_from([0, 3, -512, -1, 10**6, 2**40, 2**62])
    pax = st.dictionaries(
        st.sampled_from(
            ["path", "linkpath", "size", "GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.realsize", "uid"]
        ),
        st.sampled_from(["../evil", "1", "-1", "x", "1,2,3", "99999999999999", "0,1", ""]),
        max_size=2,
    )

    def read(members: list[tuple]) -> None:
        archive = sandbox.input / name
        try:
            if name == "a.zip":
                archive.write_bytes(plain_zip({path: b"x" for path, *_ in members}))
            else:
                format = tarfile.PAX_FORMAT if members[0][4] else tarfile.GNU_FORMAT
                infos = [member(path, b"x", kind, link, size, pax) for path, kind, link, size, pax in members]
                archive.write_bytes(
                    b"".join(
                        info.tobuf(format, errors="surrogateescape") + content.ljust(512, b"\0")
                        for info, content in infos
                    )
                    + bytes(1024)
                )
        except (ValueError, OverflowError, IndexError):
            return  # tarfile and zipfile refuse to write some members
        unpacked(sandbox, archive)

    fields = st.tuples(paths, st.sampled_from(kinds), paths, st.sampled_from([1, 1, 1]) | sizes, st.just({}) | pax)
    valid = [("a/b", tarfile.REGTYPE, "", 1, {}), ("a/link", tarfile.SYMTYPE, "b", 0, {})]
    sandbox.fuzz(CASES["archives, generated"], st.lists(fields, min_size=1, max_size=4), valid[:1], read)


# ---- images


def packed_images(sandbox: Sandbox, content: bytes) -> None:
    """Decode an image and pack it together with a valid one."""
    (sandbox.input / "a.png").write_bytes(picture())
    (sandbox.input / "b.jpg").write_bytes(content)
    with atomic_folder(sandbox.out / "set") as out:
        pack_views(sandbox.input, ["a.png", "b.jpg"], [True, True], 8, 6, out, workers=1)
        sizes = pack_whole(sandbox.input, ["a.png", "b.jpg"], 6, out, workers=1)
    for name, size in (("train_view", 8), ("test_view", 6)):
        view = np.load(sandbox.out / "set" / f"{name}.npy")
        assert view.shape == (2, size, size, 3) and view.dtype == np.uint8
    assert [min(size) for size in sizes] == [6, 6]
    assert (sandbox.out / "set/images.bin").stat().st_size == sum(3 * height * width for height, width in sizes)
    shutil.rmtree(sandbox.out / "set")


def test_damaged_images(sandbox):
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [picture("PNG", mode=mode) for mode in ("RGB", "RGBA", "P", "L", "LA", "1", "I;16")]
    files += [picture("JPEG", mode=mode, exif=exif) for mode in ("RGB", "L", "CMYK")]
    files += [picture("JPEG", progressive=True), picture("TIFF", compression="tiff_lzw"), picture("PNG", exif=exif)]
    rest = ("GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "TGA", "PCX", "SGI", "JPEG2000", "AVIF", "QOI", "DDS", "EPS")
    files += [picture(kind) for kind in rest]
    sandbox.fuzz(CASES["images, damaged"], mutated(*files), files[0], lambda content: packed_images(sandbox, content))


def png(width: int, height: int, rows: int) -> bytes:
    """A grey PNG whose header says width × height, with data for only some rows."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    pixels = zlib.compress(bytes((1 + min(width, 70_000)) * min(rows, height, 70_000)), 1)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_images_of_any_size(sandbox):
    edges = st.sampled_from([0, 1, 2, 7, 300, 9_000, 65_000, 2**20, 2**31 - 1, 2**32 - 1])
    small = edges.filter(lambda edge: edge < 9_000)
    sizes = st.tuples(edges, edges, st.sampled_from([0, 1, 2**32])).filter(lambda size: size[2] < 2 or min(size) < 301)

    def read(size: tuple[int, int, int]) -> None:
        packed_images(sandbox, png(*size))

    sandbox.fuzz(CASES["images, of any size"], st.tuples(small, small, st.just(2**32)) | sizes, (7, 7, 7), read)


# ---- files that stages write for other stages


def test_recorded_checksums(sandbox):
    archives, checksums = sandbox.input / "archives", sandbox.input / "checksums.sha256"
    archives.mkdir()
    (archives / "a.tar").write_bytes(b"published")
    downloads, file = Downloads(archives, checksums), RemoteFile("http://host.invalid/a.tar")
    downloads.fetch(file)
    valid = checksums.read_bytes() + f"{'0' * 64}  b.tar\n".encode()

    def read(content: bytes) -> None:
        checksums.write_bytes(content)
        assert downloads.fetch(file).read_bytes() == b"published"
        assert "a.tar" in checksums.read_text()

    sandbox.fuzz(CASES["checksums"], mutated(valid), valid, read)


@pytest.mark.parametrize(
    "name",
    ["default/index.csv", "default/train_view.npy", "default/test_view.npy", "whole/index.csv", "whole/images.bin"],
)
def test_packed_data_sets(sandbox, name, packed, photographs):
    root = sandbox.input
    shutil.copytree(packed, root / "default")
    (root / "whole").mkdir()
    write_packed_whole(photographs, DefaultViewData.open(packed).index, 40, root / "whole")
    valid = (root / name).read_bytes()
    kind = DefaultViewData.open if name.startswith("default") else lambda folder: ImprovedViewData.open(folder, 32)

    def read(content: bytes) -> None:
        (root / name).write_bytes(content)
        data = kind((root / name).parent)
        for split in ("train", "test"):
            targets = data.targets(split)
            assert ((targets >= 0) & (targets < len(data.classes))).all()
            assert len(data._test_crops(data.rows(split))) == data.crops * len(targets)
        images = data._training_images(data.rows("train"))
        assert len(images) == len(data.rows("train"))
        assert all(image.dtype == np.uint8 and image.shape[2] == 3 for image in images)

    head = mutated(valid[:200]).map(lambda head: head + valid[200:])
    sandbox.fuzz(CASES["packed"], mutated(valid) if name.endswith(".csv") else head, valid, read)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and np.isfinite(value)


def importance(file: Path, sandbox: Sandbox) -> None:
    learned = channel_weights(read_filter_table(file, "importance"), "standardized")
    with atomic_file(sandbox.out / "channel_weights.csv") as scratch:
        write_channel_weights(scratch, learned)
    weights(sandbox.out / "channel_weights.csv", sandbox)
    (sandbox.out / "channel_weights.csv").unlink()


def weights(file: Path, sandbox: Sandbox) -> None:
    by_layer = read_channel_weights(file)
    assert all(isinstance(layer, str) and np.isfinite(values).all() for layer, values in by_layer.items())


def images_of(file: Path, sandbox: Sandbox) -> None:
    table = read_images(file.rename(file.with_name("images.csv")).parent)
    assert all(isinstance(text, str) for column in ("path", "label") for text in table[column])


def parts_of(file: Path, sandbox: Sandbox) -> None:
    table = read_parts(file.rename(file.with_name("parts.csv")).parent)
    assert (table["x"].dtype, table["y"].dtype, table["visible"].dtype) == (float, float, bool)


def grid(file: Path, sandbox: Sandbox) -> None:
    table = cells(read_grid([file]))
    assert table[["alpha", "beta", "mean"]].dtypes.eq(float).all()


def selected(file: Path, sandbox: Sandbox) -> None:
    method = Selection.read(file).applied_to(method_class("delta")(alpha=1.0, beta=1.0))
    assert all(is_number(value) and value >= 0 for value in (method.alpha, method.beta))


def predicted(file: Path, sandbox: Sandbox) -> None:
    table = read_predictions(file.rename(file.with_name("predictions.csv")).parent)
    assert table[["probability", "target_probability"]].dtypes.eq(float).all()


def of_runs(file: Path, sandbox: Sandbox) -> None:
    file.rename(file.with_name("result.json"))
    assert isinstance(RunResult.read(file.parent), RunResult)


def gathered(file: Path, sandbox: Sandbox) -> None:
    assert read_table(file) is not None
    assert list(gather([("d", file)], ["dataset"], ["stage", "filter", "l2_sp"], "filter distances")) == [
        *("dataset", "stage", "filter", "l2_sp")
    ]


def curves(file: Path, sandbox: Sandbox) -> None:
    folder = sandbox.input / "run/curves/plots/metrics"
    folder.mkdir(parents=True, exist_ok=True)
    RESULT.write(sandbox.input / "run")
    file.rename(folder / "loss.tsv")
    points = curve(sandbox.input / "run", "loss")
    assert points.dtypes.eq(float).all()


RESULT = RunResult(
    label="DELTA",
    top1=50.0,
    macro=50.0,
    alpha=0.1,
    beta=0.0,
    penalty_share=1.5,
    penalty_share_first_epoch=2.5,
    iterations_per_epoch=4,
    source_network="ResNet-50",
    device="cpu",
    classes=["a", "b"],
    view=TestView(resize=40, crop=32, crops=1),
)
TABLES = {
    "importance": (importance, "layer,filter,importance\nlate,0,-0.5\nlate,1,2\nearly,0,1e-3\n"),
    "channel_weights": (weights, "layer,filter,channel_weight\nlate,0,0.5\nlate,1,1.5\nearly,0,1\n"),
    "grid": (
        grid,
        "alpha,beta,fold,top1,problem,dataset,backbone,method,values\n"
        '0.1,0.1,0,50.0,,d,b,m,"{""k"": 1}"\n0.1,0.1,1,,diverged,d,b,m,"{""k"": 1}"\n1,0,0,9,,d,b,m,"{""k"": 2}"\n',
    ),
    "selection": (selected, '{"values": {"alpha": 0.1, "beta": 0.01}, "test_every_epoch": true}\n'),
    "predictions": (
        predicted,
        "path,target,predicted,probability,target_probability\na/1.jpg,ant,bee,0.75,0.25\nb/2.jpg,7,7,0.5,0.5\n",
    ),
    "result": (of_runs, RESULT.model_dump_json(indent=1)),
    "images": (images_of, "path,label,split\na/1.jpg,ant,train\nb/2.jpg,NA,test\n"),
    "parts": (parts_of, "path,part,x,y,visible\na/1.jpg,eye,0.5,12.0,True\na/1.jpg,wing,0,0,False\n"),
    "distances": (gathered, "stage,layer,filter,l2_sp,delta\nconv2_x,a,0,0.1,0.2\nconv2_x,a,1,0.1,\n"),
    "curve": (curves, "step\tloss\n1\t0.5\n2\t0.25\n"),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables(sandbox, name):
    check, valid = TABLES[name]

    def read(content: bytes) -> None:
        (sandbox.input / "table").write_bytes(content)
        check(sandbox.input / "table", sandbox)

    sandbox.fuzz(CASES["tables"], mutated(valid.encode()), valid.encode(), read)


def test_activation_maps(sandbox):
    """Pixels and maps are NumPy files, whose headers are fuzzed as well."""
    noise = np.random.default_rng(0)
    columns = {"filter": [7], "source_mean": 0.0, "tuned_mean": 0.1, "considered": 8, "filters": 80, "layer": "a"}
    shown = ActivationMaps(
        images=pd.DataFrame({"label": ["ant"], "path": ["ant/0.jpg"]}),
        pixels=noise.integers(0, 256, (1, 4, 4, 3), dtype=np.uint8),
        filters=pd.DataFrame(columns),
        maps={method: noise.random((1, 2, 4, 4), np.float32) for method in METHODS},
    )
    write_maps(sandbox.input, shown)
    files = {name: (sandbox.input / name).read_bytes() for name in ("delta.npy", "pixels.npy", "filters.csv")}

    def read(changed: tuple[str, bytes]) -> None:
        for name, content in (files | dict([changed])).items():
            (sandbox.input / name).write_bytes(content)
        assert set(read_maps(sandbox.input).maps) == set(METHODS)

    changes = [st.tuples(st.just(name), mutated(content)) for name, content in files.items()]
    sandbox.fuzz(CASES["maps"], st.one_of(changes), ("delta.npy", files["delta.npy"]), read)


def test_annotated_images(sandbox):
    root = broden.write(sandbox.input / "concepts", broden.random_images(3))
    files = {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    tables = [root / "index.csv", root / "label.csv"]

    def read(changed: tuple[Path, bytes]) -> None:
        for path, content in (files | dict([changed])).items():
            path.write_bytes(content)
        concepts = Concepts.open(root)
        for row in range(len(concepts)):
            annotation = concepts.annotation(row)
            assert annotation.masks.shape[0] == len(annotation.labels)
            assert (annotation.labels < len(concepts.labels)).all()
            assert concepts.image(row, 8).shape == (8, 8, 3)

    changes = [st.tuples(st.just(path), mutated(content)) for path, content in files.items()]
    more = [st.tuples(st.just(path), mutated(files[path])) for path in 3 * tables]
    sandbox.fuzz(CASES["concepts"], st.one_of(*changes, *more), (tables[0], files[tables[0]]), read)


# ---- weights

SPEC = BackboneSpec(SMALLEST, "by hand", ("",), {}, {}, (0.5,) * 3, (0.5,) * 3)


def state() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model(SMALLEST).state_dict()


def saved(value: object, **options) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def damaged_at_its_ends(content: bytes, size: int = 3000) -> st.SearchStrategy[bytes]:
    """Edit the ends of a weight file, which describe its content; its middle has only numbers."""
    head, tail = mutated(content[:size]), mutated(content[-size:])
    return head.map(lambda new: new + content[size:]) | tail.map(lambda new: content[:-size] + new)


def read_weights(file: Path) -> None:
    found, network = read_state(file, SMALLEST), timm.create_model(SMALLEST, num_classes=0)
    network.load_state_dict(found)


@pytest.mark.parametrize("name", ["a.safetensors", "new.pth", "old.pth"])
def test_damaged_weights(sandbox, name):
    valid = {
        "a.safetensors": lambda: save(state()),
        "new.pth": lambda: saved(state()),
        "old.pth": lambda: saved(state(), _use_new_zipfile_serialization=False),
    }[name]()

    def read(content: bytes) -> None:
        (sandbox.input / name).write_bytes(content)
        read_weights(sandbox.input / name)

    sandbox.fuzz(CASES["weights, damaged"], damaged_at_its_ends(valid), valid, read)


class Evil:
    """An object that calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_malicious_weights(sandbox):
    """None of this code may run; it would write a file."""
    calls = [
        Evil(os.system, "touch evil"),
        Evil(eval, "open('evil', 'w')"),
        Evil(exec, "open('evil', 'w')"),
        Evil(open, "evil", "w"),
        Evil(subprocess.call, ["touch", "evil"]),
        Evil(Path.touch, Path("evil")),
        Evil(shutil.copyfile, __file__, "evil"),
    ]
    values = st.recursive(
        st.sampled_from([*calls, torch.zeros(2)]),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["state_dict", "fc.bias"]), inner),
        max_leaves=3,
    )
    writers = {
        "torch": saved,
        "old torch": lambda value: saved(value, _use_new_zipfile_serialization=False),
        "pickle": pickle.dumps,
        "beside the weights": lambda value: saved(state() | {"more": value}),
    }
    names = ["a.pth", "a.pth.tar", "a.bin", "a.safetensors", "weights.safetensors"]
    readers = [read_weights, lambda file: build_network(file, 2), lambda file: trained_network(file.parent)]

    def read(case: tuple) -> None:
        name, writer, value, reader = case
        (sandbox.input / name).write_bytes(writers[writer](value))
        readers[reader](sandbox.input / name)

    cases = st.tuples(st.sampled_from(names), st.sampled_from([*writers]), values, st.integers(0, 2))
    sandbox.fuzz(CASES["weights, malicious"], cases, ("a.pth", "torch", state(), 0), read)


def test_damaged_networks(sandbox):
    save_network(Network(SPEC, 3), sandbox.input)
    file = sandbox.input / "weights.safetensors"
    valid = file.read_bytes()

    def read(content: bytes) -> None:
        file.write_bytes(content)
        network = trained_network(sandbox.input)
        assert network.head.out_features == 3

    sandbox.fuzz(CASES["networks"], damaged_at_its_ends(valid), valid, read)
