"""Loading the weights of source networks, published or the user's own, and describing the network.

Weight files are loaded without executing code: with `weights_only=True`, or as safetensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from delta.io.downloads import Downloads, digest
from delta.io.errors import UserError
from delta.io.remote_file import RemoteFile
from delta.networks.architectures import timm
from delta.networks.spec import BackboneSpec
from delta.sources.catalogue import NETWORKS, TIMM, Package, PublishedNetwork, SourceNetwork
from delta.sources.introspection import convolutions_of, find_feature_layers, find_path, find_stages

_PIXELS = 128  # the side of the traced image, if the network takes any size


def source_weights(source: SourceNetwork, downloads: Downloads) -> tuple[BackboneSpec, dict[str, Tensor]]:
    """A source network's description and its backbone's state dict, downloaded if necessary.

    Raises:
        UserError: unknown network, failed download, or a file with other weights than this network's.
    """
    published = published_network(source.network)
    file = _weight_file(source, published, downloads)
    name = f"{published.architecture}, checkpoint {file.name}" if source.checkpoint else published.name
    if source.network.startswith(TIMM) and not source.checkpoint:
        state = _read_timm_state(file, published.architecture)
    else:
        state = read_state(file, published.architecture, published.own_names and not source.checkpoint)
    with torch.random.fork_rng(devices=[]):
        backbone = timm.create_model(published.architecture, pretrained=False, num_classes=0).eval()
    if not_finite := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
        raise UserError(f"{file}: {not_finite[0]} has values that are not finite: get another copy of the file")
    backbone.load_state_dict(state)
    return describe(backbone, published, source, name), backbone.state_dict()


def source_classifier(source: SourceNetwork, downloads: Downloads) -> dict[str, Tensor]:
    """The source network's own classifier of S classes on D pooled features: weight, [S, D], and bias, [S].

    It is empty for a network without one: a file without its tensors, or an architecture whose classifier is not one
    linear layer on the backbone's features.

    Raises:
        UserError: as `source_weights`.
    """
    published = published_network(source.network)
    file = _weight_file(source, published, downloads)
    found, _, name = _read_tensors(file, published.architecture, published.own_names and not source.checkpoint)
    with torch.random.fork_rng(devices=[]):
        features = timm.create_model(published.architecture, pretrained=False, num_classes=0).num_features
    for classifier in (name, "head"):  # `head` as in this pipeline's own files
        weight, bias = (found.get(f"{classifier}.{part}") for part in ("weight", "bias"))
        if weight is None or bias is None or not (weight.isfinite().all() and bias.isfinite().all()):
            continue
        if weight.dim() == 2 and weight.shape[1] == features and bias.shape == weight.shape[:1]:
            return {"weight": weight.float().contiguous(), "bias": bias.float().contiguous()}
    return {}


def _weight_file(source: SourceNetwork, published: PublishedNetwork, downloads: Downloads) -> Path:
    """The file of a source network's weights, downloaded if necessary."""
    if source.checkpoint:
        return Path(source.checkpoint)
    if published.weights is None:
        raise UserError(f"network {source.network}: timm has no weights for it: set `checkpoint` to a weight file")
    if isinstance(published.weights, Package):
        return _package_file(published.weights)
    return downloads.fetch(published.weights)


def published_network(network: str) -> PublishedNetwork:
    """The catalogue's entry for a `network` parameter, or one made from timm's configuration.

    Raises:
        UserError: timm has no such network.
    """
    return NETWORKS.get(network) or _timm_network(network.removeprefix(TIMM))


def describe(backbone: nn.Module, published: PublishedNetwork, source: SourceNetwork, name: str) -> BackboneSpec:
    """A source network's description, found by tracing a forward pass through its backbone.

    Args:
        backbone: in eval mode.
        published: its entry in the catalogue.
        source: the user's choices, which override the catalogue's.
        name: the network's name in reports.

    Raises:
        UserError: feature layers that do not exist or have no convolution, or none can be found.
    """
    config, architecture = _timm_config(backbone), published.architecture
    size = config["input_size"] if config.get("fixed_input_size") else (3, _PIXELS, _PIXELS)
    images = torch.randn(1, *size, generator=torch.Generator().manual_seed(0))
    layers: Mapping[str, tuple[str, ...]]
    if source.feature_layers:
        layers = convolutions_of(backbone, source.feature_layers, architecture)
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


def _timm_network(name: str) -> PublishedNetwork:
    """The entry for a network of timm's, with the default weights."""
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model(name) else None
    except RuntimeError:
        config = None
    if config is None:
        architecture = name.partition(".")[0]
        near = timm.list_models(f"{architecture}.*", pretrained=True) or timm.list_models(f"*{architecture[:6]}*")
        raise UserError(f"network {TIMM}{name}: timm has no such network; it has {', '.join(near[:5]) or 'others'} …")
    url = cast(str, config.url)
    if not url and config.hf_hub_id:
        url = f"https://huggingface.co/{config.hf_hub_id}/resolve/main/{config.hf_hub_filename or 'model.safetensors'}"
    file = RemoteFile(url, saved_as=f"timm-{name}{Path(url).suffix}") if url else None
    red, green, blue = config.mean
    red_std, green_std, blue_std = config.std
    return PublishedNetwork(name, f"{TIMM}{name}", file, mean=(red, green, blue), std=(red_std, green_std, blue_std))


def _package_file(package: Package) -> Path:
    """The verified `.pth` file of an installed distribution."""
    for file in package.files():
        if file.suffix == ".pth":
            path = Path(str(file.locate()))
            if (found := digest(path, "sha256")) != package.sha256:
                raise UserError(
                    f"{path}: has the sha256 {found}, the published one is {package.sha256}: reinstall {package.name}"
                )
            return path
    raise UserError(f"the package {package.name} has no .pth file: reinstall it")


def _read_timm_state(file: Path, architecture: str) -> dict[str, Tensor]:
    """The backbone's state dict from a weight file of timm's, loaded by timm, which converts older files."""
    overlay = {"file": str(file)}
    try:
        with torch.random.fork_rng(devices=[]):
            loaded = timm.create_model(architecture, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay)
    except Exception as error:  # PyTorch and safetensors raise many kinds of errors for damaged files
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{file}: not timm's weights of {architecture} ({reason})") from None
    return loaded.state_dict()


def read_state(file: Path, architecture: str, own_names: bool = False) -> dict[str, Tensor]:
    """The backbone's state dict from a weight file in one of the usual formats, without executing code from it.

    Formats: safetensors, or PyTorch's, bare or as the `state_dict` of a checkpoint; names may have the prefix
    `module.`, or `backbone.` as in this pipeline's own files. The classifier and Inception's auxiliary classifier are
    dropped. Batch norms' num_batches_tracked, which older files lack, defaults to 0.

    Args:
        architecture: timm's name for it.
        own_names: the tensors have other names than timm's, but the same order and shapes.

    Raises:
        UserError: unreadable file, or tensors of another architecture; the message names the first that differ.
    """
    found, expected, classifier = _read_tensors(file, architecture, own_names)
    shapes = {name: tensor.shape for name, tensor in found.items()}
    expected = {name: shape for name, shape in expected.items() if not name.startswith(f"{classifier}.")}
    heads = (f"{classifier}.", "head.", "AuxLogits.")
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


def _read_tensors(
    file: Path, architecture: str, own_names: bool
) -> tuple[dict[str, Tensor], dict[str, torch.Size], str]:
    """A file's tensors by timm's names, the shapes of the whole network's, and the name of its classifier."""
    try:
        found = timm.models.load_state_dict(str(file), weights_only=True)
        found = {name.removeprefix("backbone."): tensor for name, tensor in found.items()}
        if sparse := [name for name, tensor in found.items() if tensor.layout != torch.strided]:
            raise ValueError(f"{sparse[0]} is sparse")
        shapes = [tensor.shape for tensor in found.values()]
    except FileNotFoundError:
        raise UserError(f"{file}: no such weight file") from None
    except Exception as error:  # PyTorch and safetensors raise many kinds of errors for damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{file}: not a plain PyTorch weight file ({reason})") from None
    with torch.random.fork_rng(devices=[]):
        whole = timm.create_model(architecture, pretrained=False)
    expected = {name: tensor.shape for name, tensor in whole.state_dict().items()}
    if own_names and shapes == list(expected.values()):
        found = dict(zip(expected, found.values(), strict=True))
    return found, expected, _timm_config(whole)["classifier"]


def _timm_config(model: nn.Module) -> dict[str, Any]:
    return cast(dict[str, Any], model.pretrained_cfg)


def _size(shape: torch.Size | None) -> str:
    return "nothing" if shape is None else "×".join(map(str, shape)) or "a number"
