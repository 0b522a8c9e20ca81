"""The feature maps that the analyses look at: those of one layer, at the size of an image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from delta.io.errors import UserError
from delta.networks.hooks import capture_maps, in_eval_mode
from delta.networks.network import Network


def last_convolution(network: Network) -> str:
    """The last feature layer (section 3.3), by its name in the backbone: `layer4.2.conv3` of a ResNet-101."""
    return list(network.spec.feature_layers)[-1]


def last_stage(network: Network) -> str:
    """The module whose maps the pooling averages, by its name in the backbone: `layer4.2` of a ResNet-101.

    Raises:
        UserError: the network's modules are no chain, so that it cannot be found.
    """
    device, last = next(network.parameters()).device, ""
    with torch.inference_mode(), in_eval_mode(network):
        x = torch.zeros(1, 3, 64, 64, device=device)
        for name, module in network.steps():
            x = module(x)
            last = name if x.dim() == 4 else last
    if not last:
        raise UserError(f"{network.spec.name}: no last stage to be found: name a layer of it")
    return last


def layer_maps(network: Network, layer: str, batches: Iterable[Tensor], rectify: bool = True) -> Iterator[Tensor]:
    """The maps of one layer, batch by batch: test-time view, eval mode, no gradient.

    Args:
        layer: a module's name in the backbone.
        batches: normalised images, float [b, 3, h, w], on the network's device.
        rectify: whether what is negative becomes 0 (section 3.3).

    Yields:
        [b, C, h', w'].

    Raises:
        UserError: there is no such module, or what it gives are no maps.
    """
    name = network.spec.name
    if layer not in dict(network.backbone.named_modules()):
        raise UserError(f"layer {layer!r}: {name} has no such module, see print(network)")
    with in_eval_mode(network), capture_maps(network.backbone, [layer]) as maps:
        for images in batches:
            # Around the pass alone: a mode that lasts over a yield would be the reader's as well.
            with torch.inference_mode():
                network.backbone(images)
            found = maps.pop(layer, None)
            if not isinstance(found, Tensor) or found.dim() != 4:
                raise UserError(f"layer {layer!r} of {name} gives no maps [images, channels, height, width]")
            yield found.relu() if rectify else found


def upsampled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps [n, C, h, w] at another size (height, width), bilinear between the centres of their pixels.

    Beyond the outermost centres a map goes on as it is, so what lies in a corner stays there.
    """
    return interpolate(maps, size, mode="bilinear", align_corners=False)


def normalised_maps(maps: Tensor) -> Tensor:
    """Each map [..., h, w] brought to [0, 1] by its own extremes (section 4.4); one without a contrast is 0."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low).where(high > low, 1)
