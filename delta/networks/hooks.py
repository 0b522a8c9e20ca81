"""Capturing the feature maps FM_j of a forward pass (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def capture_maps(module: nn.Module, layers: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Capture feature maps of every forward pass of `module` within the block in the yielded dictionary.

    The dictionary maps each layer's name to its raw output [b, C, H, W] in the latest pass. The hooks are removed at
    the end of the block, also after an exception.

    Args:
        layers: names of submodules.
    """
    maps: dict[str, Tensor] = {}

    def capture(name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        def hook(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
            maps[name] = output

        return hook

    with ExitStack() as stack:
        for name in layers:
            handle = module.get_submodule(name).register_forward_hook(capture(name))
            stack.callback(handle.remove)
        yield maps


@contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """Put a network into eval mode within the block, and restore each module's own mode afterwards."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
