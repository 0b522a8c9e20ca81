"""The loss without single filters of a feature layer, for Equation (9), with as much computation shared as possible.

Removing filter j sets its feature map to zero. Everything before the layer is unaffected, and after it only channel j
changes until a module mixes channels. Starting at the layer, this module computes for all filters at once:

1. Channelwise modules (batch norm, ReLU, the addition of a shortcut, pooling) run twice: once with all filters, once
   with all filters removed. Without filter j, channel j is that of the second pass, and the others those of the first.
2. If a 1×1 convolution or the classifier follows, the change of one channel is a rank-one update of its output. At the
   last feature layer of a ResNet this is the classifier, so no convolution is computed again.
3. The remaining modules process many filters as one batch, with batch norms folded into the preceding convolutions.

Each shortcut is verified on random inputs before it is used, so the result is correct for any network whose feature
layers lie on its path. For other layers, each filter takes a forward pass of its own, from the step with the layer on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import fuse_conv_bn_eval

from delta.io.signals import say
from delta.networks.network import Network

_CHUNK_SIZE = {"cpu": 1 << 20, "cuda": 1 << 27}  # elements per batch of filters: what the caches handle best


class FilterRemoval:
    """The removal of each filter of one feature layer.

    Attributes:
        layer: the feature layer.
        start: the index of the step on the network's path that contains the layer.
        filters: the number of filters.
        is_shared: whether filters share computation; otherwise each takes a forward pass of its own from `start` on.
        is_free: whether no forward pass is repeated, as at the last feature layer of a ResNet.
    """

    def __init__(self, network: Network, folded: Network, layer: str, inputs: Mapping[int, Tensor]):
        """Find out what computation can be shared.

        Args:
            network: in eval mode.
            folded: the result of `fold_batch_norms`.
            layer: one of the network's feature layers.
            inputs: inputs of steps by index, see `step_inputs`; of any images.
        """
        steps = network.steps()
        self.layer = layer
        self.start = step_index(network, layer)
        self._step = steps[self.start][1]
        self._convolutions = [
            cast(nn.Conv2d, network.backbone.get_submodule(name)) for name in network.spec.feature_layers[layer]
        ]
        self.filters = sum(convolution.out_channels for convolution in self._convolutions)
        self._tail = [*(module for _, module in folded.steps()[self.start + 1 :]), folded.head]
        self._channelwise: list[nn.Module] = []
        step_input = inputs[self.start]
        self.is_shared = self._is_step_channelwise(step_input)
        if self.is_shared:
            self._split_tail(self._step(step_input[:2].clone()))
        else:
            self._tail = [*(module for _, module in steps[self.start + 1 :]), network.head]

    @property
    def is_free(self) -> bool:
        return self.is_shared and isinstance(self._tail[0], nn.Linear)

    def losses(self, step_input: Tensor, targets: Tensor, filters: Tensor | None = None) -> Tensor:
        """The batch's summed cross-entropy without each of the filters, float64 [filters].

        Args:
            step_input: the input of step `start`, [b, …].
            targets: class indices [b].
            filters: indices of filters, int64 [filters]; None for all.
        """
        every = torch.arange(self.filters, device=step_input.device)
        filters = every if filters is None else filters
        if not self.is_shared:
            return torch.cat([self._loss_without(step_input, every == j, targets) for j in filters])
        intact, removed = self._step_output(step_input, None), self._step_output(step_input, every >= 0)
        for module in self._channelwise:
            intact, removed = module(intact), module(removed)
        first, *rest = self._tail
        output_without = _FirstMixingModule(first, intact, removed)
        losses = []
        for chunk in filters.split(max(1, _CHUNK_SIZE[step_input.device.type] // output_without.size)):
            x = output_without(chunk)
            for module in rest:
                x = module(x)
            losses.append(_cross_entropy(x, targets.repeat(len(chunk))).unflatten(0, (len(chunk), -1)).sum(1))
        return torch.cat(losses)

    def _step_output(self, step_input: Tensor, removed: Tensor | None) -> Tensor:
        """The step's output without the filters that the mask `removed`, bool [filters], selects."""
        with ExitStack() as stack:
            if removed is not None:
                masks = removed.split([convolution.out_channels for convolution in self._convolutions])
                for convolution, mask in zip(self._convolutions, masks, strict=True):
                    stack.callback(convolution.register_forward_hook(_zero_channels(mask)).remove)
            return self._step(step_input.clone())  # a copy, as the step may work in place

    def _loss_without(self, step_input: Tensor, removed: Tensor, targets: Tensor) -> Tensor:
        """The batch's summed cross-entropy without the filters in a mask, computed in a separate pass: [1]."""
        x = self._step_output(step_input, removed)
        for module in self._tail:
            x = module(x)
        return _cross_entropy(x, targets).sum(0, keepdim=True)

    def _is_step_channelwise(self, step_input: Tensor) -> bool:
        """Whether filter j affects channel j of the step's output and nothing else."""
        noise = _noise_like(step_input)
        every = torch.arange(self.filters, device=noise.device)
        intact, removed, mixed = (self._step_output(noise, mask) for mask in (None, every >= 0, every % 2 == 0))
        return intact.dim() == 4 and intact.shape[1] == self.filters and _interleaves(mixed, removed, intact)

    def _split_tail(self, x: Tensor) -> None:
        """Move leading channelwise modules from the tail to `_channelwise`, splitting sequential modules on the way."""
        while not isinstance(module := self._tail[0], nn.Linear):
            if is_channelwise(module, x):
                self._channelwise.append(self._tail.pop(0))
                x = module(x.clone())
            elif children := _sequential_children(module, x):
                self._tail[:1] = children
            else:
                return


class _FirstMixingModule:
    """The output of the first module that mixes channels, without one filter at a time.

    Attributes:
        size: elements in its output for one filter and all images (in its input, if it is not linear).
    """

    def __init__(self, module: nn.Module, intact: Tensor, removed: Tensor):
        """Prepare for a module and its input with all filters, and with all filters removed: [b, C, …] each."""
        self._module, self._intact, self._removed = module, intact, removed
        self._is_linear = isinstance(module, nn.Linear) or (
            isinstance(module, nn.Conv2d) and (module.kernel_size, module.stride, module.groups) == ((1, 1), (1, 1), 1)
        )
        if self._is_linear:
            # Channels last, so that the pixels, if any, are rows of a matrix product.
            self._output = module(intact).movedim(1, -1)
            self._change = (removed - intact).movedim(1, 0)
            self._weight = cast(Tensor, module.weight).flatten(1).T
        self.size = self._output.numel() if self._is_linear else intact.numel()

    def __call__(self, filters: Tensor) -> Tensor:
        """The outputs without each of the filters, concatenated: [filters · b, …]."""
        if self._is_linear:
            change = self._change[filters].unsqueeze(-1)
            weight = self._weight[filters].view(len(filters), *[1] * (self._output.dim() - 1), -1)
            return torch.addcmul(self._output, change, weight).flatten(0, 1).movedim(-1, 1)
        channels = torch.arange(self._intact.shape[1], device=filters.device)
        is_removed = (filters[:, None] == channels).unflatten(0, (-1, *[1] * (self._intact.dim() - 1)))
        # A choice between two tensors, as an indexed assignment takes several passes over the batch on a GPU.
        x = torch.where(is_removed, self._removed.movedim(1, -1), self._intact.movedim(1, -1))
        return self._module(x.contiguous().movedim(-1, 2).flatten(0, 1))  # channels last


def step_inputs(network: Network, x: Tensor) -> tuple[dict[int, Tensor], Tensor]:
    """Run a forward pass, and return the inputs of the steps that contain feature layers, by index, and the logits."""
    indices = {step_index(network, layer) for layer in network.spec.feature_layers}
    inputs = {}
    for index, (_, module) in enumerate(network.steps()):
        if index in indices:
            inputs[index] = x.clone()  # a copy, as the step may work in place
        x = module(x)
    return inputs, network.head(x)


def step_index(network: Network, layer: str) -> int:
    """The index of the step on the network's path that contains a module; the last such step, if there are several."""
    names = [name for name, _ in network.steps()]
    return max(i for i, name in enumerate(names) if not name or layer == name or layer.startswith(f"{name}."))


def fold_batch_norms(network: Network, images: Tensor) -> Network:
    """A copy in eval mode with batch norms folded into the preceding convolutions, which keeps the outputs.

    A batch norm that is itself a step on the path is not folded, so that the output of every step is kept. If the
    outputs change, because a batch norm does not in fact follow the convolution, the network itself is returned, and
    that is printed. They also change by more than is allowed here where products are rounded to TF32.

    Args:
        images: some inputs, to verify that the outputs are kept.
    """
    result = copy.deepcopy(network).eval()
    steps = [module for _, module in result.steps()]
    for parent in result.modules():
        for (convolution_name, convolution), (norm_name, norm) in pairwise(list(parent.named_children())):
            if (
                isinstance(convolution, nn.Conv2d)
                and isinstance(norm, nn.BatchNorm2d)
                and convolution.out_channels == norm.num_features
                and norm not in steps
            ):
                setattr(parent, convolution_name, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, norm_name, getattr(norm, "act", nn.Identity()))  # timm's norms include the activation
    before, after = network(images), result(images)
    if torch.allclose(before, after, rtol=1e-3, atol=1e-4 * before.abs().max().item()):
        return result
    say("attention: batch norms are not folded into convolutions, as that changes the outputs: it takes longer")
    return network


def is_channelwise(module: nn.Module, x: Tensor) -> bool:
    """Whether each channel of a module's output depends on the same channel of its input only.

    Args:
        x: an input of the module, [b, C, …]; only its shape, type and device matter.
    """
    one, other = _noise_like(x), -_noise_like(x.flip(1))
    even = torch.arange(x.shape[1], device=x.device) % 2 == 0
    mixed = torch.where(even.view(1, -1, *[1] * (x.dim() - 2)), one, other)
    outputs = [module(noise.clone()) for noise in (mixed, one, other)]
    return outputs[0].dim() > 1 and outputs[0].shape[1] == x.shape[1] and _interleaves(*outputs)


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(logits.double(), targets, reduction="none")


def _zero_channels(mask: Tensor) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
    """A forward hook that sets the channels in a mask to zero."""

    def hook(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return output.masked_fill(mask.view(1, -1, 1, 1), 0)

    return hook


def _noise_like(batch: Tensor) -> Tensor:
    """Random numbers in the shape of a batch, but for at most two images; the same numbers in every call."""
    noise = torch.randn(min(2, len(batch)), *batch.shape[1:], generator=torch.Generator().manual_seed(0))
    return noise.to(batch)


def _interleaves(mixed: Tensor, even: Tensor, odd: Tensor) -> bool:
    """Whether the even channels of `mixed` are those of `even` and its odd channels those of `odd`."""
    return torch.equal(mixed[:, ::2], even[:, ::2]) and torch.equal(mixed[:, 1::2], odd[:, 1::2])


def _sequential_children(module: nn.Module, x: Tensor) -> Sequence[nn.Module]:
    """A module's children if the module is equivalent to applying them one after another; otherwise none."""
    children, x = list(module.children()), _noise_like(x)
    try:
        output = x.clone()
        for child in children:
            output = child(output)
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return []
    return children if children and torch.equal(output, module(x.clone())) else []
