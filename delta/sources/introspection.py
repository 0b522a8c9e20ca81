"""Finding a CNN's path, feature layers and stages by tracing a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from delta.io.errors import UserError

_STAGES = 4  # the number of stages that the paper takes feature maps from


class _ForwardTrace:
    """A traced forward pass.

    Attributes:
        shapes: the shape of each module's output, by module name, in the order in which the modules finished.
        output: the network's output.
    """

    def __init__(self, network: nn.Module, images: Tensor):
        self.shapes: dict[str, torch.Size] = {}
        with ExitStack() as stack, torch.inference_mode():
            for name, module in network.named_modules():
                stack.callback(module.register_forward_hook(self._hook(name)).remove)
            self.output: Tensor = network(images)

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], object], None]:
        def record(_module: nn.Module, _inputs: tuple[Any, ...], output: object) -> None:
            if isinstance(output, Tensor):
                self.shapes[name] = output.shape

        return record


def find_path(backbone: nn.Module, images: Tensor) -> tuple[str, ...]:
    """The names of the top-level modules if the forward pass is their composition; otherwise ("",), the whole network.

    Args:
        backbone: in eval mode.
        images: normalised, [b, 3, h, w].
    """
    trace = _ForwardTrace(backbone, images)
    names = tuple(name for name in trace.shapes if name and "." not in name)
    try:
        with torch.inference_mode():
            x = images.clone()
            for name in names:
                x = backbone.get_submodule(name)(x)
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return ("",)
    return names if torch.equal(x, trace.output) else ("",)


def find_feature_layers(backbone: nn.Module, images: Tensor, architecture: str) -> dict[str, tuple[str, ...]]:
    """The last convolution of each of the last four stages that timm lists for the network.

    That is the last convolution with the stage's number of output channels whose maps are not smaller than the
    stage's, not counting shortcuts: `layer4.2.conv3` in the last stage of a ResNet-50. Arguments as for `find_path`.

    Raises:
        UserError: timm lists no stages, or a stage does not end in a convolution.
    """
    stages = [stage["module"] for stage in getattr(backbone, "feature_info", [])][-_STAGES:]
    shapes = _ForwardTrace(backbone, images).shapes
    if not stages or any(module not in shapes for module in stages):
        raise UserError(f"network timm:{architecture}: timm lists no stages of it: set feature_layers")
    names = list(shapes)
    layers: dict[str, tuple[str, ...]] = {}
    for module in stages:
        candidates = [
            name
            for name in names[: names.index(module) + 1]
            if isinstance(backbone.get_submodule(name), nn.Conv2d)
            and shapes[name][1] == shapes[module][1]
            and shapes[name][2:] >= shapes[module][2:]
            and not {"downsample", "shortcut"} & set(name.split("."))
        ]
        if not candidates or candidates[-1] in layers:
            raise UserError(
                f"network timm:{architecture}: its stage {module} does not end in a convolution: set feature_layers"
            )
        layers[candidates[-1]] = (candidates[-1],)
    return layers


def convolutions_of(backbone: nn.Module, layers: Sequence[str], architecture: str) -> dict[str, tuple[str, ...]]:
    """The convolution that computes the channels of each of the given layers, in the order of the network's modules.

    Args:
        layers: names of modules, as a user set them.
        architecture: for error messages.

    Raises:
        UserError: a layer does not exist, or does not contain exactly one convolution.
    """
    modules = dict(backbone.named_modules())
    found: dict[str, tuple[str, ...]] = {}
    if unknown := [layer for layer in layers if layer not in modules]:
        raise UserError(f"feature_layers: {architecture} has no module {', '.join(unknown)}: see `print(network)`")
    for layer in sorted(layers, key=list(modules).index):
        inside = [
            ".".join(filter(None, (layer, name)))
            for name, module in modules[layer].named_modules()
            if isinstance(module, nn.Conv2d)
        ]
        if len(inside) != 1:
            raise UserError(
                f"feature_layers: {layer!r} of {architecture} has {len(inside)} convolutions: name one of them"
            )
        found[layer] = (inside[0],)
    return found


def find_stages(
    backbone: nn.Module, images: Tensor, feature_layers: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """The convolutions of each stage, called conv2_x, conv3_x, …: a stage ends with the block of a feature layer.

    The stem, which is everything before the top-level module with the first feature layer, belongs to no stage, nor
    does what follows the last feature layer.

    Args:
        backbone, images: as for `find_path`.
        feature_layers: as in `delta.networks.spec.BackboneSpec`.
    """
    convolutions = [
        name
        for name in _ForwardTrace(backbone, images).shapes
        if isinstance(backbone.get_submodule(name), nn.Conv2d) and name
    ]
    first = next(iter(feature_layers)).partition(".")[0]
    start = min(index for index, name in enumerate(convolutions) if name.partition(".")[0] == first)
    stages = {}
    for number, (layer, own_convolutions) in enumerate(feature_layers.items(), start=2):
        end, block = 1 + max(map(convolutions.index, own_convolutions)), f"{layer.rpartition('.')[0]}."
        # A block's shortcut or squeeze-and-excitation may run after its last convolution.
        while "." in block[:-1] and end < len(convolutions) and convolutions[end].startswith(block):
            end += 1
        stages[f"conv{number}_x"] = tuple(convolutions[start:end])
        start = end
    return stages
