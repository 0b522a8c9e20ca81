"""Feature maps of one layer for the analyses, and scaling them to the size of an image."""

from __future__ import annotations

from collections.abc import Generator, Iterable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from delta.io.errors import UserError
from delta.networks.devices import deterministic
from delta.networks.hooks import capture_maps, in_eval_mode
from delta.networks.network import Network


def last_convolution(network: Network) -> str:
    """The name of the last feature layer (section 3.3) in the backbone: `layer4.2.conv3` in a ResNet-101."""
    return list(network.spec.feature_layers)[-1]


def last_stage(network: Network, crop: int) -> str:
    """The name of the module before the global pooling in the backbone: `layer4.2` in a ResNet-101.

    Args:
        crop: pixels per side of the network's inputs; some networks cannot process smaller ones.

    Raises:
        UserError: it cannot be found, as the forward pass is not a composition of modules.
    """
    device, last = next(network.parameters()).device, ""
    with torch.inference_mode(), in_eval_mode(network):
        x = torch.zeros(1, 3, crop, crop, device=device)
        for name, module in network.steps():
            x = module(x)
            last = name if x.dim() == 4 else last
    if not last:
        raise UserError(f"{network.spec.name}: its last stage cannot be found: set `layer` to the name of a module")
    return last


def layer_maps(
    network: Network, layer: str, batches: Iterable[Tensor], rectify: bool = True
) -> Generator[Tensor, None, None]:
    """The maps of one layer, batch by batch, in eval mode and without gradients.

    Args:
        layer: a module's name in the backbone.
        batches: normalised images, float [b, 3, h, w], on the network's device.
        rectify: whether to apply ReLU (section 3.3).

    Yields:
        float [b, C, h', w'].

    Raises:
        UserError: there is no such module, or its output does not consist of maps.
    """
    name = network.spec.name
    if layer not in dict(network.backbone.named_modules()):
        raise UserError(f"layer {layer!r}: {name} has no such module: see `print(network)`")
    with in_eval_mode(network), capture_maps(network.backbone, [layer]) as maps:
        for images in batches:
            # Around the forward pass only, as the mode would also apply to the caller during a yield.
            with torch.inference_mode():
                network.backbone(images)
            found = maps.pop(layer, None)
            if not isinstance(found, Tensor) or found.dim() != 4:
                raise UserError(f"layer {layer!r} of {name} does not output maps [images, channels, height, width]")
            yield found.relu() if rectify else found


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps [n, C, h, w] to another size (height, width), bilinear with aligned pixel edges, not corners.

    Beyond the outermost pixel centres, the map is continued by its border values.
    """
    # Only the gradient has no deterministic kernel, but in that mode PyTorch takes a slow detour on a GPU anyway.
    with deterministic(False):
        return interpolate(maps, size, mode="bilinear", align_corners=False)


def min_max_normalise(maps: Tensor) -> Tensor:
    """Scale each map [..., h, w] to [0, 1] by its own minimum and maximum (section 4.4); constant maps become 0."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low).where(high > low, 1)
