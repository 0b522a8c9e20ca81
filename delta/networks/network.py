"""Building networks: a backbone of shared weights ω_S with a new classifier of private weights ω_P on top."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from delta.io.errors import UserError
from delta.networks.spec import BackboneSpec

_RUN_WEIGHTS = "weights.safetensors"
_SPEC = "backbone"
_UNREADABLE = (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError, AttributeError)


class Network(nn.Module):
    """A backbone and a linear head.

    Its input is a batch of normalised images, float [b, 3, h, w]; its output logits [b, n_classes]. Loaded networks lie
    channels last in memory, as their inputs do: convolutions are fastest so.
    """

    def __init__(self, spec: BackboneSpec, n_classes: int, seed: int = 0):
        """Build the architecture with a head that depends on `seed` alone; the backbone's weights are still random.

        The head is initialised as `nn.Linear` initialises itself (uniform in ±1/√features).
        """
        super().__init__()
        self.spec = spec
        with torch.random.fork_rng(devices=[]):
            self.backbone = timm.create_model(spec.architecture, pretrained=False, num_classes=0)
            self.head = nn.Linear(self.backbone.num_features, n_classes)
        generator = torch.Generator().manual_seed(seed)
        bound = 1 / math.sqrt(self.head.in_features)
        for parameter in self.head.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))

    def steps(self) -> list[tuple[str, nn.Module]]:
        """The backbone's modules in the order an image passes them, as (name, module), Sequentials taken apart."""

        def flat(name: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
            if not isinstance(module, nn.Sequential):
                return [(name, module)]
            return [step for child, part in module.named_children() for step in flat(f"{name}.{child}", part)]

        return [step for name in self.spec.path for step in flat(name, self.backbone.get_submodule(name))]

    def shared_weights(self) -> dict[str, nn.Parameter]:
        """ω_S: every parameter but the classifier's, by its name in the backbone."""
        return dict(self.backbone.named_parameters())

    def private_weights(self) -> dict[str, nn.Parameter]:
        """ω_P: the classifier's weight and bias."""
        return dict(self.head.named_parameters())


def save_weights(spec: BackboneSpec, state: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, with the backbone that they belong to in the file's metadata.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        save_file({name: tensor.contiguous().cpu() for name, tensor in state.items()}, path, {_SPEC: spec.to_json()})
    except SafetensorError as error:
        raise OSError(f"{path}: {error}") from None


def _load_weights(path: Path) -> tuple[BackboneSpec, dict[str, Tensor]]:
    """What `save_weights` wrote."""
    # Mapped into memory, a file that somebody cuts meanwhile would kill the process without a word (SIGBUS).
    with safe_open(path, "pt", backend="pread") as file:
        spec, state = BackboneSpec.from_json((file.metadata() or {})[_SPEC]), file.get_tensors()
    if not timm.is_model(spec.architecture):  # timm would take other names for places to download from
        raise ValueError(f"{spec.architecture!r} is no network of timm's")
    return spec, state


def build_network(weights: Path, n_classes: int, seed: int = 0) -> Network:
    """The network a fine-tuning run starts from: source weights in the backbone, a new head.

    Args:
        weights: a file of a backbone's state, see `delta.sources.weights`.

    Raises:
        UserError: the file cannot be read, or holds other tensors than its backbone has.
    """
    try:
        spec, state = _load_weights(weights)
        network = Network(spec, n_classes, seed)
        network.backbone.load_state_dict(state)
    except _UNREADABLE as error:
        raise UserError(f"{weights}: not a source network's weights ({_reason(error)}): run `dvc repro`") from None
    return network.to(memory_format=torch.channels_last)


def save_network(network: Network, run: Path) -> None:
    """Write a network's state into the folder of its run, as `weights.safetensors`."""
    save_weights(network.spec, network.state_dict(), run / _RUN_WEIGHTS)


def trained_network(run: Path) -> Network:
    """The network that `save_network` wrote, on the CPU.

    Raises:
        UserError: the folder holds no such network.
    """
    try:
        spec, state = _load_weights(run / _RUN_WEIGHTS)
        network = Network(spec, len(state["head.bias"]))
        network.load_state_dict(state)
    except _UNREADABLE as error:
        raise UserError(f"{run}: no trained network ({_reason(error)}): run `dvc repro`") from None
    return network.to(memory_format=torch.channels_last)


def _reason(error: Exception) -> str:
    return " ".join(f"no {error}".split() if isinstance(error, KeyError) else str(error).split())
