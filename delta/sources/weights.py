"""Source networks' weights as published, or of the user's own: fetched, checked against the architecture, described.

No weight file is ever unpickled with code execution: `weights_only=True`, or safetensors.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import timm
import torch
from timm.models import load_state_dict
from torch import Tensor, nn

from delta.io.downloads import Downloads, digest
from delta.io.errors import UserError
from delta.io.remote_file import RemoteFile
from delta.networks.spec import BackboneSpec
from delta.sources.catalogue import NETWORKS, TIMM, Package, Published, SourceNetwork
from delta.sources.introspection import find_feature_layers, find_path, find_stages, made_by

_PIXELS = 128  # the side of the images that a network is watched with, where it takes any


def source_weights(source: SourceNetwork, downloads: Downloads) -> tuple[BackboneSpec, dict[str, Tensor]]:
    """A source network's description and its backbone's state, fetched where it is not here yet.

    Raises:
        UserError: unknown network, a failed download, or a file that is not this network's weights.
    """
    published = published_network(source.network)
    if source.checkpoint:
        file, name = Path(source.checkpoint), f"{published.architecture}, checkpoint {Path(source.checkpoint).name}"
    elif published.weights is None:
        raise UserError(f"network {source.network}: timm has no weights for it: set a checkpoint of your own")
    elif isinstance(published.weights, Package):
        file, name = _in_package(published.weights), published.name
    else:
        file, name = downloads.fetch(published.weights), published.name

    if source.network.startswith(TIMM) and not source.checkpoint:
        state = _read_as_timm_does(file, published.architecture)
    else:
        state = read_state(file, published.architecture, published.own_names and not source.checkpoint)
    with torch.random.fork_rng(devices=[]):
        backbone = timm.create_model(published.architecture, pretrained=False, num_classes=0).eval()
    if spoilt := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
        raise UserError(f"{file}: {spoilt[0]} holds numbers that are not finite: get the file anew")
    backbone.load_state_dict(state)
    return described(backbone, published, source, name), backbone.state_dict()


def published_network(network: str) -> Published:
    """What is known of a `network` parameter's value.

    Raises:
        UserError: timm has no such network.
    """
    return NETWORKS.get(network) or _of_timm(network.removeprefix(TIMM))


def described(backbone: nn.Module, published: Published, source: SourceNetwork, name: str) -> BackboneSpec:
    """A source network's description, found by watching an image pass through its backbone, in eval mode.

    Raises:
        UserError: its feature layers are not those of a CNN, or do not exist.
    """
    config, architecture = backbone.pretrained_cfg, published.architecture
    size = config["input_size"] if config.get("fixed_input_size") else (3, _PIXELS, _PIXELS)
    images = torch.randn(1, *size, generator=torch.Generator().manual_seed(0))
    if source.feature_layers:
        layers = made_by(backbone, source.feature_layers, architecture)
    else:
        layers = published.feature_layers or find_feature_layers(backbone, images, architecture)
    return BackboneSpec(
        architecture=architecture,
        name=name,
        path=find_path(backbone, images),
        feature_layers=layers,
        stages=find_stages(backbone, images, layers),
        mean=source.mean or published.mean,
        std=source.std or published.std,
    )


def _of_timm(name: str) -> Published:
    """A network of timm's, with the weights that timm has for it."""
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model(name) else None
    except RuntimeError:
        config = None
    if config is None:
        architecture = name.partition(".")[0]
        near = timm.list_models(f"{architecture}.*", pretrained=True) or timm.list_models(f"*{architecture[:6]}*")
        raise UserError(f"network {TIMM}{name}: timm has no such network; it has {', '.join(near[:5]) or 'others'} …")
    url = config.url
    if not url and config.hf_hub_id:
        url = f"https://huggingface.co/{config.hf_hub_id}/resolve/main/{config.hf_hub_filename or 'model.safetensors'}"
    file = RemoteFile(url, saved_as=f"timm-{name}{Path(url).suffix}") if url else None
    return Published(name, f"{TIMM}{name}", file, mean=tuple(config.mean), std=tuple(config.std))


def _in_package(package: Package) -> Path:
    """The one `.pth` file of an installed distribution, its checksum verified."""
    try:
        files = metadata.files(package.name) or []
    except metadata.PackageNotFoundError:
        raise UserError(f"the package {package.name} is not installed: pip install -r requirements.txt") from None
    for file in files:
        if file.suffix == ".pth":
            path = Path(str(file.locate()))
            if (found := digest(path, "sha256")) != package.sha256:
                raise UserError(
                    f"{path}: checksum is sha256 {found}, published is {package.sha256}: reinstall {package.name}"
                )
            return path
    raise UserError(f"the package {package.name} holds no .pth file: reinstall it")


def _read_as_timm_does(file: Path, architecture: str) -> dict[str, Tensor]:
    """The backbone's state from a file of timm's: timm renames what it must of its own older ones."""
    overlay = {"file": str(file)}
    try:
        with torch.random.fork_rng(devices=[]):
            loaded = timm.create_model(architecture, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay)
    except Exception as error:  # PyTorch and safetensors have many kinds for a damaged file
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{file}: not timm's weights of {architecture} ({reason})") from None
    return loaded.state_dict()


def read_state(file: Path, architecture: str, own_names: bool = False) -> dict[str, Tensor]:
    """The backbone's state from a weight file in any of the usual forms, without executing anything in it.

    Forms: safetensors, or PyTorch's, bare or as the `state_dict` of a checkpoint, names prefixed `module.`, or
    `backbone.` as this pipeline's own. The classifier and Inception's auxiliary one are left out. Older files
    lack batch-norm's num_batches_tracked.

    Args:
        architecture: its name in timm.
        own_names: the publisher's names are not timm's; take the tensors in order.

    Raises:
        UserError: unreadable file, or tensors of another architecture, naming the first that differ.
    """
    try:
        found = load_state_dict(str(file), weights_only=True)
        found = {name.removeprefix("backbone."): tensor for name, tensor in found.items()}
        if sparse := [name for name, tensor in found.items() if tensor.layout != torch.strided]:
            raise ValueError(f"{sparse[0]} is sparse")
        shapes = {name: tensor.shape for name, tensor in found.items()}
    except FileNotFoundError:
        raise UserError(f"{file}: no such weight file") from None
    except Exception as error:  # PyTorch and safetensors have many kinds for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{file}: not a plain PyTorch weight file ({reason})") from None
    with torch.random.fork_rng(devices=[]):
        whole = timm.create_model(architecture, pretrained=False)
    expected = {name: tensor.shape for name, tensor in whole.state_dict().items()}
    if own_names and list(shapes.values()) == list(expected.values()):
        found, shapes = dict(zip(expected, found.values(), strict=True)), expected
    classifier = f"{whole.pretrained_cfg['classifier']}."
    expected = {name: shape for name, shape in expected.items() if not name.startswith(classifier)}
    heads = (classifier, "head.", "AuxLogits.")
    found = {name: tensor for name, tensor in found.items() if name in expected or not name.startswith(heads)}
    for name in expected.keys() - found.keys():
        if name.endswith(".num_batches_tracked"):
            found[name] = torch.tensor(0)
    differing = [
        f"{name} ({_size(shapes.get(name))} instead of {_size(expected.get(name))})"
        for name in expected | found
        if name not in found or (found[name].shape != expected.get(name))
    ]
    if differing:
        raise UserError(
            f"{file}: not weights of {architecture}; {len(differing)} tensors differ, first {', '.join(differing[:3])}"
        )
    return {name: found[name].contiguous() for name in expected}


def _size(shape: torch.Size | None) -> str:
    return "nothing" if shape is None else "×".join(map(str, shape)) or "a number"
