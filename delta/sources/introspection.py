"""Finding a CNN's path, feature layers and stages by watching one image pass through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from delta.io.errors import UserError

_STAGES = 4  # as many as the paper takes feature maps from


class _Watched:
    """The modules of a network in the order in which one image left them, with the shapes of what they gave."""

    def __init__(self, network: nn.Module, images: Tensor):
        self.shapes: dict[str, torch.Size] = {}
        with ExitStack() as stack, torch.inference_mode():
            for name, module in network.named_modules():
                stack.callback(module.register_forward_hook(self._noting(name)).remove)
            self.result = network(images)

    def _noting(self, name: str):
        def note(_module: nn.Module, _inputs: tuple, output: object) -> None:
            if isinstance(output, Tensor):
                self.shapes[name] = output.shape

        return note


def find_path(backbone: nn.Module, images: Tensor) -> tuple[str, ...]:
    """The modules that an image passes one after the other, as names; the whole network where that is no chain.

    Args:
        backbone: in eval mode.
        images: normalised, [b, 3, h, w].
    """
    watched = _Watched(backbone, images)
    names = tuple(name for name in watched.shapes if name and "." not in name)
    try:
        with torch.inference_mode():
            x = images.clone()
            for name in names:
                x = backbone.get_submodule(name)(x)
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return ("",)
    return names if torch.equal(x, watched.result) else ("",)


def find_feature_layers(backbone: nn.Module, images: Tensor, architecture: str) -> dict[str, tuple[str, ...]]:
    """The last convolution of each of the last four stages that timm knows of the network.

    It is the last one with as many channels as the stage ends in and no smaller maps, shortcuts left aside:
    `layer4.2.conv3` of a ResNet-50. Arguments as for `find_path`.

    Raises:
        UserError: timm knows no stages, or one ends in no convolution.
    """
    known = [stage["module"] for stage in getattr(backbone, "feature_info", [])][-_STAGES:]
    shapes = _Watched(backbone, images).shapes
    if not known or any(module not in shapes for module in known):
        raise UserError(f"network timm:{architecture}: timm knows no stages of it: name its feature_layers yourself")
    names, layers = list(shapes), {}
    for module in known:
        ended = [
            name
            for name in names[: names.index(module) + 1]
            if isinstance(backbone.get_submodule(name), nn.Conv2d)
            and shapes[name][1] == shapes[module][1]
            and shapes[name][2:] >= shapes[module][2:]
            and not {"downsample", "shortcut"} & set(name.split("."))
        ]
        if not ended or (ended[-1],) in layers.values():
            raise UserError(
                f"network timm:{architecture}: its stage {module} ends in no convolution: name its feature_layers "
                "yourself"
            )
        layers[ended[-1]] = (ended[-1],)
    return layers


def made_by(backbone: nn.Module, layers: Sequence[str], architecture: str) -> dict[str, tuple[str, ...]]:
    """The convolution that makes the channels of each of the layers that a user named.

    Raises:
        UserError: a layer does not exist, or holds not exactly one convolution.
    """
    modules, found = dict(backbone.named_modules()), {}
    if unknown := [layer for layer in layers if layer not in modules]:
        raise UserError(f"feature_layers: {architecture} has no module {', '.join(unknown)}, see print(network)")
    for layer in sorted(layers, key=list(modules).index):
        inside = [
            ".".join(filter(None, (layer, name)))
            for name, module in modules[layer].named_modules()
            if isinstance(module, nn.Conv2d)
        ]
        if len(inside) != 1:
            raise UserError(f"feature_layers: {layer!r} of {architecture} holds {len(inside)} convolutions: name one")
        found[layer] = (inside[0],)
    return found


def find_stages(
    backbone: nn.Module, images: Tensor, feature_layers: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Every convolution after the stem by the stage that ends with the next feature layer's block: conv2_x, conv3_x …

    The stem is what comes before the part of the network that holds the first feature layer; what follows the last
    feature layer is in no stage. Arguments as for `find_path`.
    """
    convolutions = [
        name
        for name in _Watched(backbone, images).shapes
        if isinstance(backbone.get_submodule(name), nn.Conv2d) and name
    ]
    first = next(iter(feature_layers)).partition(".")[0]
    start = min(place for place, name in enumerate(convolutions) if name.partition(".")[0] == first)
    stages = {}
    for number, (layer, makers) in enumerate(feature_layers.items(), start=2):
        end, block = 1 + max(map(convolutions.index, makers)), f"{layer.rpartition('.')[0]}."
        # A block's shortcut or squeeze-and-excitation may run after its last convolution.
        while "." in block[:-1] and end < len(convolutions) and convolutions[end].startswith(block):
            end += 1
        stages[f"conv{number}_x"] = tuple(convolutions[start:end])
        start = end
    return stages
