"""docs/your-own-data.md: what it tells a reader to write and to run is written and run."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml
from tests.helpers.clone import ROOT, Clone
from tests.conftest import SPEC, TRAINING, VIEW
from PIL import Image
from tests.pipeline.test_dag import SMALL

from delta import datasets, export, methods, predict
from delta.data.packed.views import input_statistics, normalised
from delta.io.downloads import Downloads
from delta.methods.base import PenaltyInputs
from delta.networks.hooks import capture_maps
from delta.networks.network import build_network
from delta.training.loop import fine_tune

GUIDE = ROOT / "docs/your-own-data.md"
METHOD, FORMAT = "delta/methods/channel_means.py", "delta/datasets/oxford_pets.py"
PROFILE = yaml.safe_load((ROOT / "profiles/folder.yaml").read_text())


class Block(NamedTuple):
    """A fenced block: its language, the file that it is or changes, and its text."""

    language: str
    file: str
    text: str


def blocks() -> Iterator[Block]:
    for info, text in re.findall(r"^```(.*?)\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.M | re.S):
        language, _, file = info.partition(" ")
        yield Block(language, file, text)


def commands() -> list[list[str]]:
    lines = [line for block in blocks() if block.language == "sh" for line in block.text.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def merged(values: dict, changes: dict) -> dict:
    """Values with what a part of params.yaml changes in them."""
    both = {key: merged(values[key], value) for key, value in changes.items() if isinstance(values.get(key), dict)}
    return values | changes | both


def test_every_block_is_of_a_kind_that_is_tried():
    assert {(block.language, block.file) for block in blocks()} == {
        ("", ""),  # what a command prints, or a list of files
        ("sh", ""),
        ("yaml", "params.yaml"),
        ("python", ""),
        ("python", METHOD),
        ("python", FORMAT),
    }


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_exists(words):
    """Its options, parameters and files; what it does is for the test of the whole guide."""
    match words:
        case ["python", "-m", "delta.predict.command", *arguments]:
            predict.parser().parse_args(arguments)
        case ["python", "-m", "delta.export", *arguments]:
            export.parser().parse_args(arguments)
        case ["dvc", "exp", "run", *options]:
            for name in (option.partition("=")[0] for option in options if "=" in option):
                section, _, key = name.partition(".")
                assert key in PROFILE[section]
        case ["cp", source, "params.yaml"]:
            assert (ROOT / source).is_file()
        case _:
            assert words[0] == "export" or words in (["dvc", "repro"], ["dvc", "exp", "show"])


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)", GUIDE.read_text(encoding="utf-8")))))
def test_every_link_leads_somewhere(link):
    assert link.startswith("https://") or (GUIDE.parent / link).exists()


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Import a module that the guide has the reader write, as a part of its package."""

    def load(file: str):
        (text,) = (block.text for block in blocks() if block.file == file)
        (tmp_path / Path(file).name).write_text(text)
        package, name = (methods, "delta.methods") if file == METHOD else (datasets, "delta.datasets")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        name = f"{name}.{Path(file).stem}"
        module = import_module(name)
        monkeypatch.delitem(sys.modules, name)
        return module

    return load


def test_the_method_is_its_formula(written, data, weights):
    """½ Σ over layers, images and filters of the squared difference of the rectified maps' means, by hand."""
    method = written(METHOD).ChannelMeans(alpha=0.1)
    network, source = (build_network(weights, 3).eval() for _ in range(2))
    with torch.no_grad():
        for parameter in network.backbone.parameters():
            parameter.mul_(1.1)
    images = normalised(torch.tensor(data.test_view[:4]), input_statistics(SPEC, torch.device("cpu")))
    layers = SPEC.feature_layers
    with (
        torch.no_grad(),
        capture_maps(network.backbone, layers) as maps,
        capture_maps(source.backbone, layers) as source_maps,
    ):
        network(images), source(images)
        pair = PenaltyInputs(network.shared_weights(), source.shared_weights(), maps, source_maps, {}, layers)
        found = method.shared_penalty(pair).item()
    means = [
        [np.maximum(kept[layer].numpy().astype(float), 0).mean((2, 3)) for kept in (maps, source_maps)]
        for layer in layers
    ]
    expected = sum(0.5 * ((one - other) ** 2).sum() / (other**2).mean() for one, other in means)
    assert found == pytest.approx(expected, rel=1e-4)
    assert found > 0


def test_the_method_trains(written, data, weights):
    method = written(METHOD).ChannelMeans(alpha=0.1)
    network, source = (build_network(weights, 3) for _ in range(2))
    before = {name: weight.clone() for name, weight in network.shared_weights().items()}
    fine_tune(network, source, data, method, {}, TRAINING.model_copy(update={"iterations": 1}), VIEW, seed=0)
    assert any(not torch.equal(weight, before[name]) for name, weight in network.shared_weights().items())


def pets(folder: Path) -> list[tuple[str, str, str]]:
    """A miniature of the two archives in the existing folder; path, label and split of its images."""
    rows = [(f"{breed}_{n}", breed, split) for breed in ("Abyssinian", "great_pyrenees") for n, split in PETS.items()]
    for name, _, _ in rows:
        (folder / "images").mkdir(exist_ok=True)
        Image.new("RGB", (40, 30)).save(folder / f"images/{name}.jpg")
    (folder / "annotations").mkdir()
    for split, file in (("train", "trainval.txt"), ("test", "test.txt")):
        lines = [f"{name} 1 1 1\n" for name, _, of in rows if of == split]
        (folder / "annotations" / file).write_text("".join(lines))
    for name, archive in (("images", "oxford_pets_images.tar.gz"), ("annotations", "oxford_pets_annotations.tar.gz")):
        with tarfile.open(folder / archive, "w:gz") as tar:
            tar.add(folder / name, name)
    return sorted((f"images/{name}.jpg", breed, split) for name, breed, split in rows)


PETS = {1: "train", 2: "test", 3: "train"}


def test_the_data_set_is_read(written, tmp_path, monkeypatch):
    archives, out = tmp_path / "archives", tmp_path / "out"
    archives.mkdir()
    out.mkdir()
    expected = pets(archives)
    module = written(FORMAT)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert datasets.split_by_publisher("oxford_pets")
    files = tuple(replace(file, checksum=None) for file in module.PUBLISHED.files)
    monkeypatch.setattr(module, "PUBLISHED", replace(module.PUBLISHED, files=files, classes=2, train=4, test=2))
    downloads = Downloads(tmp_path / "downloads", tmp_path / "checksums.txt", mirror=str(archives))
    datasets.fetch("oxford_pets", "ignored", None, 0, downloads, out)
    table = datasets.read("oxford_pets", out)
    assert list(table[["path", "label", "split"]].itertuples(index=False, name=None)) == expected


def shrunk(values: dict) -> dict:
    """The same parameters for a run of seconds a stage."""
    small = {name: SMALL[name] for name in ("backbones", "seeds", "training")}
    small["datasets"] = {"photographs": {"train_per_class": 3, "test_per_class": 2}}
    small["grid"] = {"alpha": [0.001, 0.1], "beta": [0.1], "folds": [0, 1], "iterations": 2}
    small["improved_view"] = {"methods": ["delta"]}
    small["learning_curves"] = small["filter_distances"] = small["activation_maps"] = {"datasets": []}
    small["methods"] = [method for method in values["methods"] if method in ("l2", "delta", "channel_means")]
    return merged(values, small)


@pytest.mark.slice
def test_the_whole_guide(tmp_path):
    """Its blocks one after the other, as a reader would take them, with parameters that take seconds."""
    clone = Clone.of_project(tmp_path / "clone")
    noise = np.random.default_rng(0)
    for place, label in enumerate(("cat", "dog")):
        for folder, count in ((f"photographs/{label}", 5), ("new", 1)):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                pixels = noise.integers(120 * place, 120 * place + 90, (50, 60, 3), dtype=np.uint8)
                name = f"{number + 1}.jpg" if count > 1 else f"{label}.jpg"
                Image.fromarray(pixels).save(tmp_path / folder / name)
    params, printed = clone.root / "params.yaml", []
    for block in blocks():
        if block.language == "yaml":
            values = merged(yaml.safe_load(params.read_text()), yaml.safe_load(block.text))
            params.write_text(yaml.safe_dump(shrunk(values), sort_keys=False))
        elif block.file:
            (clone.root / block.file).write_text(block.text)
        elif block.language:
            shell = ["bash", "-euc"] if block.language == "sh" else ["python", "-c"]
            printed.append((block.text, clone.run(*shell, block.text)))
    (predicted,) = (json.loads(out) for text, out in printed if "--json" in text)
    assert [entry["image"] for entry in predicted] == ["../new/cat.jpg", "../new/dog.jpg"]
    best = {entry["image"]: entry["predictions"][0]["class"] for entry in predicted}
    (library,) = (out for text, out in printed if "Classifier.open" in text)
    assert library.splitlines() == [f"{image} {name}" for image, name in best.items()]
    (onnx,) = (out for text, out in printed if "onnxruntime" in text)
    exported = "runs/photographs/efficientnet_lite0/delta/0"
    table = clone.run("python", "-m", "delta.predict.command", exported, "../new/cat.jpg", "--top", "1")
    assert onnx.strip() == table.splitlines()[1].split()[1]
    assert "| L2-FE | L2 | DELTA | Channel means |" in clone.read("reports/tables/table1.md")
    assert "download@pets" in clone.run("dvc", "stage", "list", "--name-only")
    clone.run("python", "-m", "stages.check_params")
