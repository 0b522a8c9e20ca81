"""Capturing the feature maps FM_j of a forward pass (section 3.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn


@contextmanager
def capture_maps(module: nn.Module, layers: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """While the block lasts, every forward pass of `module` leaves its feature maps in the yielded dictionary.

    The maps are the raw outputs [b, C, H, W] of the named modules, by name; each pass replaces the last one's.
    No hook is left behind, whatever happens in the block.
    """
    maps: dict[str, Tensor] = {}

    def keep(name: str):
        def hook(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
            maps[name] = output

        return hook

    with ExitStack() as stack:
        for name in layers:
            handle = module.get_submodule(name).register_forward_hook(keep(name))
            stack.callback(handle.remove)
        yield maps


@contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """Eval mode while the block lasts; then every module is back in its own mode, a frozen backbone in eval mode."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
