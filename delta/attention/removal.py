"""What becomes of an image's loss when single filters of a feature layer are removed: Equation (9) without waste.

Removing filter j sets its map to zero, so everything before the layer stays as it is, and after it one channel differs
for as long as nothing mixes channels. This goes along the path from there, for all filters of the layer at once:

1. What keeps channels apart (batch norm, ReLU, a shortcut's addition, pooling) is passed once with all filters there
   and once with all of them removed: without filter j alone, channel j is that of the second pass.
2. Where a 1×1 convolution or the classifier comes next, one channel's change is a rank-one update of its output. At
   the last feature layer of a ResNet that is the end: no convolution is computed again.
3. What is left is passed by many filters as one batch, batch norms folded into the convolutions before them.

Every shortcut is tried on random numbers before it is taken, so it holds for any network whose feature layers lie on
one path. Where none does, each filter takes a pass of its own from the step of the path that holds it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import fuse_conv_bn_eval

from delta.networks.network import Network

_BATCH = {"cpu": 1 << 20, "cuda": 1 << 27}  # numbers in the maps that go through the rest at once; what caches like


class Removal:
    """The removal of each filter of one feature layer.

    Attributes:
        layer: the feature layer.
        start: the index of the path's step that holds it.
        filters: how many it has.
        is_shared: whether the filters share what they can; False where each takes a pass of its own.
        is_free: whether nothing at all is passed again, as at the last feature layer of a ResNet.
    """

    def __init__(self, network: Network, folded: Network, layer: str, inputs: Mapping[int, Tensor]):
        """Find what may be shared.

        Args:
            network: in eval mode.
            folded: see `folded`.
            inputs: by step, see `inputs_of`; of any images.
        """
        steps = network.steps()
        self.layer = layer
        self.start = holder(network, layer)
        self._step = steps[self.start][1]
        self._makers = [network.backbone.get_submodule(maker) for maker in network.spec.feature_layers[layer]]
        self.filters = sum(maker.out_channels for maker in self._makers)
        self._tail = [*(module for _, module in folded.steps()[self.start + 1 :]), folded.head]
        self._apart: list[nn.Module] = []
        entry = inputs[self.start]
        self.is_shared = self._step_is_channelwise(entry)
        if self.is_shared:
            self._split_tail(self._step(entry[:2].clone()))
        else:
            self._tail = [*(module for _, module in steps[self.start + 1 :]), network.head]

    @property
    def is_free(self) -> bool:
        return self.is_shared and isinstance(self._tail[0], nn.Linear)

    def losses(self, entry: Tensor, targets: Tensor, filters: Tensor | None = None) -> Tensor:
        """The batch's summed cross-entropy without each of the filters, float64 [filters].

        Args:
            entry: the input of the step that holds the layer, [b, …].
            targets: class indices [b].
            filters: which ones; all of them by default.
        """
        every = torch.arange(self.filters, device=entry.device)
        filters = every if filters is None else filters
        if not self.is_shared:
            return torch.cat([self._loss_alone(entry, every == j, targets) for j in filters])
        intact, removed = self._without(entry, None), self._without(entry, every >= 0)
        for module in self._apart:
            intact, removed = module(intact), module(removed)
        first, *rest = self._tail
        through = _Through(first, intact, removed)
        found = []
        for some in filters.split(max(1, _BATCH[entry.device.type] // through.size)):
            x = through(some)
            for module in rest:
                x = module(x)
            found.append(_losses(x, targets.repeat(len(some))).unflatten(0, (len(some), -1)).sum(1))
        return torch.cat(found)

    def _without(self, entry: Tensor, gone: Tensor | None) -> Tensor:
        """The step's output with the filters marked in `gone` [filters] removed."""
        with ExitStack() as stack:
            if gone is not None:
                for maker, mask in zip(self._makers, gone.split([m.out_channels for m in self._makers]), strict=True):
                    stack.callback(maker.register_forward_hook(_zeroing(mask)).remove)
            return self._step(entry.clone())  # it may work in place

    def _loss_alone(self, entry: Tensor, gone: Tensor, targets: Tensor) -> Tensor:
        x = self._without(entry, gone)
        for module in self._tail:
            x = module(x)
        return _losses(x, targets).sum(0, keepdim=True)

    def _step_is_channelwise(self, entry: Tensor) -> bool:
        """Whether channel j of the step's output is all that depends on filter j."""
        entry = _noise(entry)
        every = torch.arange(self.filters, device=entry.device)
        intact, removed, mixed = (self._without(entry, gone) for gone in (None, every >= 0, every % 2 == 0))
        return intact.dim() == 4 and intact.shape[1] == self.filters and _is_mixture(mixed, removed, intact)

    def _split_tail(self, x: Tensor) -> None:
        """Move what keeps channels apart out of the tail, and take chains of modules apart on the way."""
        while not isinstance(module := self._tail[0], nn.Linear):
            if _is_channelwise(module, x):
                self._apart.append(self._tail.pop(0))
                x = module(x.clone())
            elif chain := _chain(module, x):
                self._tail[:1] = chain
            else:
                return


class _Through:
    """The first module of a tail, passed without one filter or another.

    Attributes:
        size: numbers in its output for one filter and all images.
    """

    def __init__(self, first: nn.Module, intact: Tensor, removed: Tensor):
        self._first, self._intact, self._removed = first, intact, removed
        self._is_linear = isinstance(first, nn.Linear) or (
            isinstance(first, nn.Conv2d) and (first.kernel_size, first.stride, first.groups) == ((1, 1), (1, 1), 1)
        )
        if self._is_linear:
            # Channels last, where an image's pixels, if any, are rows of a matrix product.
            self._output = first(intact).movedim(1, -1)
            self._change = (removed - intact).movedim(1, 0)
            self._weight = first.weight.flatten(1).T
        self.size = self._output.numel() if self._is_linear else intact.numel()

    def __call__(self, filters: Tensor) -> Tensor:
        """[filters · b, …]: the output without each of the filters, one after the other."""
        if self._is_linear:
            change = self._change[filters].unsqueeze(-1)
            weight = self._weight[filters].view(len(filters), *[1] * (self._output.dim() - 1), -1)
            return torch.addcmul(self._output, change, weight).flatten(0, 1).movedim(-1, 1)
        copies = self._intact.expand(len(filters), *self._intact.shape).movedim(2, -1)
        x = copies.clone(memory_format=torch.contiguous_format).movedim(-1, 2)  # channels last
        x[torch.arange(len(filters)), :, filters] = self._removed.movedim(1, 0)[filters]
        return self._first(x.flatten(0, 1))


def inputs_of(network: Network, x: Tensor) -> tuple[dict[int, Tensor], Tensor]:
    """One pass along the path: the inputs of the steps that hold feature layers, by their index; the logits."""
    holders = {holder(network, layer) for layer in network.spec.feature_layers}
    inputs = {}
    for index, (_, module) in enumerate(network.steps()):
        if index in holders:
            inputs[index] = x.clone()  # the step may work in place
        x = module(x)
    return inputs, network.head(x)


def holder(network: Network, layer: str) -> int:
    """The index of the step of the path that holds a module; the last one's, where several do."""
    names = [name for name, _ in network.steps()]
    return max(i for i, name in enumerate(names) if not name or layer == name or layer.startswith(f"{name}."))


def folded(network: Network, images: Tensor) -> Network:
    """A copy in eval mode with its batch norms folded into the convolutions before them, which changes no output.

    A norm that is a step of the path stays as it is, so that each step's output does. Where a norm only seems to
    follow a convolution, the outputs change: then it is the network itself.

    Args:
        images: some of its inputs, to see whether the outputs stay.
    """
    result = copy.deepcopy(network).eval()
    steps = [module for _, module in result.steps()]
    for parent in result.modules():
        for (place, convolution), (other, norm) in pairwise(list(parent.named_children())):
            if (
                isinstance(convolution, nn.Conv2d)
                and isinstance(norm, nn.BatchNorm2d)
                and convolution.out_channels == norm.num_features
                and norm not in steps
            ):
                setattr(parent, place, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, other, getattr(norm, "act", nn.Identity()))  # timm's norms have their ReLU in them
    before, after = network(images), result(images)
    return result if torch.allclose(before, after, rtol=1e-3, atol=1e-4 * before.abs().max().item()) else network


def _losses(logits: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(logits.double(), targets, reduction="none")


def _zeroing(mask: Tensor):
    def zero(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        return output.masked_fill(mask.view(1, -1, 1, 1), 0)

    return zero


def _noise(like: Tensor) -> Tensor:
    """Random numbers of a batch's shape, but for at most two images; the same ones every time."""
    noise = torch.randn(min(2, len(like)), *like.shape[1:], generator=torch.Generator().manual_seed(0))
    return noise.to(like)


def _is_channelwise(module: nn.Module, x: Tensor) -> bool:
    """Whether each channel of a module's output depends on the same channel of its input alone."""
    one, other = _noise(x), -_noise(x.flip(1))
    even = torch.arange(x.shape[1], device=x.device) % 2 == 0
    mixed = torch.where(even.view(1, -1, *[1] * (x.dim() - 2)), one, other)
    outputs = [module(each.clone()) for each in (mixed, one, other)]
    return outputs[0].dim() > 1 and outputs[0].shape[1] == x.shape[1] and _is_mixture(*outputs)


def _is_mixture(mixed: Tensor, even: Tensor, odd: Tensor) -> bool:
    """Whether a batch has its even channels from one and its odd channels from another batch."""
    return torch.equal(mixed[:, ::2], even[:, ::2]) and torch.equal(mixed[:, 1::2], odd[:, 1::2])


def _chain(module: nn.Module, x: Tensor) -> Sequence[nn.Module]:
    """A module's parts if it is nothing but one after the other; else nothing."""
    parts, x = list(module.children()), _noise(x)
    try:
        chained = x.clone()
        for part in parts:
            chained = part(chained)
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return []
    return parts if parts and torch.equal(chained, module(x.clone())) else []
