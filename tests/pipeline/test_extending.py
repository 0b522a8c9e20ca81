"""docs/extending.md: write its method, data set and analysis into a clone, and run them with DVC."""

from __future__ import annotations

import json
import re
import sys
import tarfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from delta import datasets
from delta.data.listing import read_images
from delta.data.packed.views import normalised
from delta.io.downloads import Downloads
from delta.methods.base import PenaltyInputs
from delta.networks.hooks import capture_maps
from delta.networks.network import build_network
from delta.training.loop import fine_tune
from tests.helpers.clone import ROOT, Clone
from tests.helpers.guides import Block, blocks, commands, merged
from tests.helpers.small_slice import ITEM, REPORT, SMALL, STAGES, reproduce
from tests.helpers.tiny import SPEC, STATISTICS, TRAINING, recipe

GUIDE = ROOT / "docs/extending.md"
METHOD, FORMAT = "delta/methods/channel_means.py", "delta/datasets/oxford_pets.py"
ANALYSIS = "delta/analysis/sparsity.py"
PETS = {1: "train", 2: "test", 3: "train"}


def example(section: str) -> list[Block]:
    """The blocks of a section that are files or parts of files."""
    return [block for block in blocks(GUIDE, section) if block.file]


METHOD_BLOCKS, FORMAT_BLOCKS, ANALYSIS_BLOCKS = map(example, ["A method", "A data set", "An analysis"])


def test_the_examples_are_small():
    assert [block.file for block in METHOD_BLOCKS] == [METHOD, "params.yaml", "params.yaml"]
    assert [block.file for block in FORMAT_BLOCKS] == [FORMAT, "params.yaml"]
    assert len({block.file for block in ANALYSIS_BLOCKS}) <= 6
    assert len(METHOD_BLOCKS + FORMAT_BLOCKS + ANALYSIS_BLOCKS) == sum(bool(block.file) for block in blocks(GUIDE))
    assert commands(GUIDE) == [["dvc", "repro"], ["dvc", "repro"]]


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that imports a module of the guide as a part of its package."""

    def load(file: str):
        (text,) = (block.text for block in blocks(GUIDE) if block.file == file)
        (tmp_path / Path(file).name).write_text(text, encoding="utf-8")
        package = import_module(".".join(Path(file).parent.parts))
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        name = f"{package.__name__}.{Path(file).stem}"
        module = import_module(name)
        monkeypatch.delitem(sys.modules, name)
        return module

    return load


def test_the_method_equals_its_formula(written, data, weights):
    """The reference is ½ Σ over layers, images and filters of the squared difference of the rectified maps' means."""
    method = written(METHOD).ChannelMeans(alpha=0.1)
    network, source = (build_network(weights, 3).eval() for _ in range(2))
    with torch.no_grad():
        for parameter in network.backbone.parameters():
            parameter.mul_(1.1)
    images = normalised(torch.tensor(data.test_view[:4]), STATISTICS)
    layers = SPEC.feature_layers
    with (
        torch.no_grad(),
        capture_maps(network.backbone, layers) as maps,
        capture_maps(source.backbone, layers) as source_maps,
    ):
        network(images), source(images)
        inputs = PenaltyInputs(network.shared_weights(), source.shared_weights(), maps, source_maps, {}, layers)
        found = method.shared_penalty(inputs).item()
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
    once = TRAINING.model_copy(update={"iterations": 1})
    fine_tune(network, source, data, recipe(method, training=once), {})
    assert any(not torch.equal(weight, before[name]) for name, weight in network.shared_weights().items())


def pets(folder: Path) -> list[tuple[str, str, str]]:
    """Write a miniature of the two archives into the existing folder; return path, label and split of its images."""
    rows = [(f"{breed}_{n}", breed, split) for breed in ("Abyssinian", "great_pyrenees") for n, split in PETS.items()]
    (folder / "images").mkdir()
    for number, (name, _, _) in enumerate(rows):
        Image.new("RGB", (40, 30), (40 * number, 0, 90)).save(folder / f"images/{name}.jpg")
    (folder / "annotations").mkdir()
    for split, file in (("train", "trainval.txt"), ("test", "test.txt")):
        lines = [f"{name} 1 1 1\n" for name, _, of in rows if of == split]
        (folder / "annotations" / file).write_text("".join(lines))
    for name, archive in (("images", "oxford_pets_images.tar.gz"), ("annotations", "oxford_pets_annotations.tar.gz")):
        with tarfile.open(folder / archive, "w:gz") as tar:
            tar.add(folder / name, name)
    return sorted((f"images/{name}.jpg", breed, split) for name, breed, split in rows)


def test_the_data_set_is_read(written, tmp_path, monkeypatch):
    archives, out, index = (tmp_path / name for name in ("archives", "out", "index"))
    for folder in (archives, out, index):
        folder.mkdir()
    expected = pets(archives)
    module = written(FORMAT)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert datasets.is_split_by_publisher("oxford_pets")
    files = tuple(replace(file, checksum=None) for file in module.PUBLISHED.files)
    monkeypatch.setattr(module, "PUBLISHED", replace(module.PUBLISHED, files=files, classes=2, train=4, test=2))
    downloads = Downloads(tmp_path / "downloads", tmp_path / "checksums.txt", mirror=str(archives))
    datasets.fetch("oxford_pets", "delta/datasets/oxford_pets.py", None, None, None, downloads, out)
    datasets.write_index("oxford_pets", out, index)
    table = read_images(index)
    assert list(table[["path", "label", "split"]].itertuples(index=False, name=None)) == expected


def test_the_analysis_measures_zeros(written, run, packed):
    """The reference uses the test images' maps of the last feature layer."""
    module = written(ANALYSIS)
    found = module.sparsity({7: run}, packed, torch.device("cpu"))
    network, data = module.trained_network(run).eval(), module.DefaultViewData.open(packed)
    images = normalised(torch.tensor(data.test_view[data.rows("test")]), STATISTICS)
    layer = list(SPEC.feature_layers)[-1]
    with torch.inference_mode(), capture_maps(network.backbone, [layer]) as maps:
        network(images)
    assert list(found["seed"]) == [7]
    assert found["zeros"].item() == pytest.approx(100 * (maps[layer] <= 0).double().mean().item(), abs=0.1)
    assert 0 < found["zeros"].item() < 100


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory) -> Clone:
    """A very small slice, reproduced and committed."""
    return reproduce(tmp_path_factory.mktemp("extending") / "clone", SMALL, STAGES)


def write(clone: Clone, written: list[Block], **changes: dict) -> None:
    """Do what a reader does: write the modules, and add the sections to the existing files.

    Args:
        changes: sections of params.yaml that replace the guide's where the small slice differs.
    """
    for block in written:
        file = clone.root / block.file
        if block.language == "yaml":
            values = yaml.safe_load(file.read_text(encoding="utf-8"))
            added = yaml.safe_load(block.text) | (changes if block.file == "params.yaml" else {})
            values = merged(values, added, extend_lists=block.file == "dvc.yaml")
            file.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
        elif file.exists():  # sections.py: a class or a field of Experiments
            place = "class Experiments(" if block.text.startswith("class ") else "\n    @property\n    def experiments("
            before, _, after = file.read_text(encoding="utf-8").partition(place)
            gap = "\n\n" if block.text.startswith("class ") else ""
            file.write_text(f"{before}{block.text}{gap}{place}{after}", encoding="utf-8")
        else:
            file.write_text(block.text, encoding="utf-8")
    modules = sorted({block.file for block in written if block.language == "python"})
    clone.run("ruff", "check", *modules)
    clone.run("ruff", "format", "--check", *modules)


@pytest.mark.slice
def test_a_new_method_trains_no_other_method(clone):
    write(clone, METHOD_BLOCKS[:2], methods=[*SMALL["methods"], "channel_means"])
    assert clone.stages_run("repro") == {
        "check_params",
        f"select@{ITEM}-channel_means",
        f"normalize_attention@{ITEM}-channel_means",
        f"train@{ITEM}-channel_means-0",
        *REPORT,
    }
    assert "| L2-FE | L2-SP | DELTA | Channel means |" in clone.read("reports/tables/table1.md")


@pytest.mark.slice
def test_a_new_method_is_tuned_and_in_the_tables(clone):
    """By cells of its own, with a grid of as many pairs as the slice's."""
    write(clone, METHOD_BLOCKS[:2], methods=[*SMALL["methods"], "channel_means"])
    section = yaml.safe_load(METHOD_BLOCKS[2].text)
    pairs = {
        name: yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))["grid"][name] for name in ("alpha", "beta")
    }
    chosen = section["grid"] | pairs | {"datasets": ["drawn_30"], "backbones": ["efficientnet_lite0"]}
    write(clone, METHOD_BLOCKS[2:], grid=chosen)
    ran = clone.stages_run("repro")
    folds = {f"cross_validate@{ITEM}-{method}-{fold}" for method in section["grid"]["methods"] for fold in (0, 1)}
    assert {*folds, f"train@{ITEM}-channel_means-0"} <= ran
    assert f"train@{ITEM}-delta-0" not in ran
    (row,) = pd.read_csv(clone.root / "reports/tables/tuning.csv").itertuples()
    assert (row.method, row.cells) == ("channel_means", 9)
    result = json.loads(clone.read("runs/drawn_30/efficientnet_lite0/channel_means/0/result.json"))
    assert json.loads(row.values) == {name: result[name] for name in ("alpha", "beta")}
    assert "Channel means (9 cells)" in clone.read("reports/tables/table1.md").replace("\n", " ")


@pytest.mark.slice
def test_a_data_set_is_downloaded_and_trained_on(clone, tmp_path):
    (archives := tmp_path / "archives").mkdir()
    pets(archives)
    write(clone, FORMAT_BLOCKS, downloads={"folder": "data/archives", "mirror": str(archives)})
    module = clone.root / FORMAT
    # The miniature has other checksums.
    published = re.sub(r'"md5:\w+"', "None", module.read_text(encoding="utf-8"))
    for fact, value in {"classes": 2, "train": 4, "test": 2}.items():
        published = re.sub(rf"\b{fact}=[\d_]+", f"{fact}={value}", published)
    module.write_text(published, encoding="utf-8")
    ran = clone.stages_run("repro")
    of_pets = {name.replace("drawn_30", "pets") for name in STAGES if "drawn_30" in name}
    assert of_pets <= ran
    assert {name for name in ran - of_pets if "drawn_30" in name} == set()
    table = clone.read("reports/tables/table1.md")
    assert "| drawn_30 |" in table and "| pets |" in table


@pytest.mark.slice
def test_an_analysis_runs_and_is_in_the_report(clone):
    chosen = {"datasets": ["drawn_30"], "backbones": ["efficientnet_lite0"], "methods": ["l2_fe", "l2_sp", "delta"]}
    write(clone, ANALYSIS_BLOCKS, sparsity=chosen)
    measured = {f"measure_sparsity@{ITEM}-{method}" for method in chosen["methods"]}
    assert clone.stages_run("repro") == {"check_params", *measured, *REPORT}
    zeros = {
        method: pd.read_csv(clone.root / f"runs/drawn_30/efficientnet_lite0/sparsity/{method}.csv")["zeros"].item()
        for method in chosen["methods"]
    }
    for method, network in {"l2_fe": "SRC", "l2_sp": "L2-SP", "delta": "DELTA"}.items():
        assert f"| drawn_30 | {network} | {zeros[method]:.1f} |" in clone.read("reports/tables/sparsity.md")
    assert "Sparsity of the features" in clone.read("reports/index.html")
    clone.run("python", "-m", "pytest", "-q", "tests/pipeline/test_dependencies.py", "-k", "measure_sparsity or tables")
    # A wrong value is reported before anything runs.
    params = yaml.safe_load(clone.read("params.yaml"))
    clone.edit_params(sparsity=params["sparsity"] | {"methods": ["l2"]})
    failed = clone.call("dvc", "repro")
    assert "sparsity (Sparsity) asks for l2, which is not trained" in failed.stderr
