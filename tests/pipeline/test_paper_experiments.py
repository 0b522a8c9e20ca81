"""The paper's profile with miniature archives and random weights from a local server.

The stages fetch, split and pack every data set for both backbones and train one iteration on it.
"""

from __future__ import annotations

import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import yaml

from delta.data.packed.index import read_index
from delta.io.errors import UserError
from delta.methods.channel_weights import write_filter_table
from delta.networks.network import build_network
from delta.sources.catalogue import NETWORKS
from stages import download, fetch_weights, normalize_attention, pack_whole, select, split, train
from stages.common.params import Params, load_params
from stages.common.paths import (
    CHECKSUMS,
    importance_file,
    packed_folder,
    packed_whole_folder,
    raw_folder,
    run_folder,
    weights_file,
)
from tests.helpers.loopback import Loopback
from tests.helpers.published_archives import facts, write

PAPER = yaml.safe_load((Path(__file__).parents[2] / "profiles/paper.yaml").read_text(encoding="utf-8"))
FORMATS = {name: dataset["format"] for name, dataset in PAPER["datasets"].items()}
PAIRS = [(dataset, backbone) for dataset in FORMATS for backbone in PAPER["backbones"]]
SOURCES = ("resnet101", "resnet50_places365", "inception_v3")

pytestmark = pytest.mark.slice  # takes minutes, because the two networks are large


def write_weights(folder: Path) -> None:
    """Write random weights in the publishers' formats: torchvision's old files, and a DataParallel checkpoint."""
    torch.manual_seed(0)
    networks = {
        "resnet101": torchvision.models.resnet101(weights=None),
        "resnet50_places365": torchvision.models.resnet50(weights=None, num_classes=365),
        "inception_v3": torchvision.models.inception_v3(weights=None, init_weights=False),
    }
    for name, network in networks.items():
        state = network.state_dict()
        if name == "resnet50_places365":
            state = {"epoch": 90, "state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}
        file = folder / NETWORKS[name].weights.name
        torch.save(state, file, _use_new_zipfile_serialization=False)


SEEDED = ("improved_view", "learning_curves", "part_activation", "dissection")


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    for format in set(FORMATS.values()):
        write(format, folder)
    write_weights(folder)
    return folder


@pytest.fixture(scope="module")
def workspace(published, tmp_path_factory):
    """A folder for the stages, with the server as mirror and the miniatures' counts and checksums."""
    root = tmp_path_factory.mktemp("workspace")
    with Loopback(published) as server, pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for format in set(FORMATS.values()):
            module = importlib.import_module(f"delta.datasets.{format}")
            patch.setattr(module, "PUBLISHED", facts(format, published))
        for name in SOURCES:
            weights = NETWORKS[name].weights
            patch.setitem(NETWORKS, name, replace(NETWORKS[name], weights=replace(weights, checksum=None)))
        yield server


@pytest.fixture(scope="module")
def params(workspace) -> Params:
    """The paper's profile for the miniatures, with small crops and one iteration."""
    values = PAPER | {
        "downloads": {"folder": "data/archives", "mirror": workspace.url},
        "seeds": [0],
        "training": PAPER["training"] | {"iterations": 1, "batch_size": 4},
        "grid": PAPER["grid"] | {"datasets": []},
        **{name: PAPER[name] | {"seeds": [0]} for name in SEEDED},
        "device": "cpu",
    }
    for backbone in values["backbones"].values():
        backbone |= {"resize": 96, "crop": 80}
    for dataset in values["datasets"].values():
        if "train_per_class" in dataset:
            dataset |= {"train_per_class": 4, "test_per_class": 2}
    Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return load_params(Path("params.yaml"))


@pytest.fixture(scope="module")
def weights(params):
    """Weights that the stage fetches once per source network; the DAG fetches them once per pair."""
    fetched: dict[str, Path] = {}

    def weights_of(dataset: str, backbone: str) -> Path:
        chosen = params.datasets[dataset].networks.get(backbone, params.backbones[backbone])
        source, file = chosen.network, weights_file(dataset, backbone)
        if file.exists():
            return file
        if source in fetched:
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fetched[source], file)
        else:
            fetch_weights.main(params, dataset, backbone)
            fetched[source] = file
        return file

    return weights_of


@pytest.mark.parametrize(("dataset", "backbone"), PAIRS)
def test_each_data_set_is_downloaded_packed_and_trained_on(dataset, backbone, params, weights):
    if not raw_folder(dataset).exists():
        download.main(params, dataset)
    split.main(params, dataset, backbone)
    index = read_index(packed_folder(dataset, backbone))
    assert index["split"].value_counts().to_dict() == {"train": 12, "test": 6}
    assert index.groupby("split")["label"].nunique().to_dict() == {"train": 3, "test": 3}

    network = build_network(weights(dataset, backbone), 3)
    noise = np.random.default_rng(0)
    channels = {
        layer: sum(network.backbone.get_submodule(maker).out_channels for maker in makers)
        for layer, makers in network.spec.feature_layers.items()
    }
    importance = importance_file(dataset, backbone, 0)
    importance.parent.mkdir(parents=True, exist_ok=True)
    write_filter_table(importance, {layer: noise.normal(size=n) for layer, n in channels.items()}, "importance")
    normalize_attention.main(params, dataset, backbone, "delta")
    select.main(params, dataset, backbone, "delta")
    train.main(params, dataset, backbone, "delta", 0, "default")

    result = json.loads((run_folder(dataset, backbone, "delta", 0) / "result.json").read_text())
    sources = {"resnet101": "ResNet-101, ImageNet", "inception_v3": "Inception-V3, ImageNet"}
    places = dataset == "mit_indoors_67" and backbone == "resnet101"
    assert result["source_network"] == ("ResNet-50, Places365" if places else sources[backbone])
    assert result["classes"] == sorted(index["label"].unique())
    assert 0 <= result["top1"] <= 100


def test_files_without_a_published_checksum_are_recorded_in_the_lock_file(params, weights):
    weights("mit_indoors_67", "resnet101")
    recorded = CHECKSUMS.read_text(encoding="utf-8").split()
    assert "resnet50_places365.pth.tar" in recorded


def test_an_existing_archive_needs_no_network(params, workspace, published):
    """The result is the same without the server, with a copied archive folder, and with a folder as mirror."""
    asked = len(workspace.asked("/CUB_200_2011.tgz"))
    for downloads in (
        {"folder": str(published), "mirror": "http://127.0.0.1:9"},
        {"folder": "data/elsewhere", "mirror": str(published)},
        {"folder": "data/elsewhere", "mirror": published.as_uri()},
    ):
        chosen = params.model_copy(update={"downloads": params.downloads.model_copy(update=downloads)})
        shutil.rmtree(raw_folder("cub_200_2011"), ignore_errors=True)
        download.main(chosen, "cub_200_2011")
        assert (raw_folder("cub_200_2011") / "CUB_200_2011/images.txt").is_file()
    assert len(workspace.asked("/CUB_200_2011.tgz")) == asked


def test_a_failed_download_leaves_nothing_and_the_next_run_recovers(params, published, workspace, tmp_path):
    """A wrong file in the folder is reported by name; after it is deleted, the file is downloaded."""
    folder = tmp_path / "archives"
    folder.mkdir()
    (folder / "food-101.tar.gz").write_bytes(b"not the published bytes")
    chosen = params.model_copy(update={"downloads": params.downloads.model_copy(update={"folder": str(folder)})})
    shutil.rmtree(raw_folder("food_101"), ignore_errors=True)
    with pytest.raises(UserError, match="food-101.tar.gz"):
        download.main(chosen, "food_101")
    assert not raw_folder("food_101").exists()
    (folder / "food-101.tar.gz").unlink()
    download.main(chosen, "food_101")
    assert raw_folder("food_101").is_dir()


def test_images_that_are_used_in_place_are_packed_as_downloaded_ones(params, workspace, tmp_path):
    if not raw_folder("cub_200_2011").exists():
        download.main(params, "cub_200_2011")
    place = shutil.copytree(raw_folder("cub_200_2011") / "CUB_200_2011", tmp_path / "CUB_200_2011")
    classes = ["Common_Yellowthroat", "Indigo_Bunting"]
    downloaded = params.datasets["cub_200_2011"].model_copy(update={"classes": classes})
    sets = {"cub_200_2011": downloaded, "in_place": downloaded.model_copy(update={"source": str(place)})}
    chosen = params.model_copy(update={"datasets": sets})
    download.main(chosen, "in_place")
    assert [path.name for path in raw_folder("in_place").iterdir()] == ["checksums.csv"]
    for name in sets:
        split.main(chosen, name, "resnet101")
        pack_whole.main(chosen, name, "resnet101")
    for folder in (packed_folder, packed_whole_folder):
        one, other = (
            {path.name: path.read_bytes() for path in folder(name, "resnet101").iterdir() if path.is_file()}
            for name in sets
        )
        assert one == other
        assert len(one) > 1
