"""Networks: a backbone (shared weights ω_S) with a new linear classifier on top (private weights ω_P)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from delta.io.errors import UserError
from delta.networks.architectures import timm
from delta.networks.spec import BackboneSpec

_RUN_WEIGHTS = "weights.safetensors"
_SPEC = "backbone"
_UNREADABLE = (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError, AttributeError)


class Network(nn.Module):
    """A backbone and a linear head: normalised images, float [b, 3, h, w], to logits [b, n_classes].

    Loaded networks are in the channels-last memory format, like their inputs, which is fastest for convolutions.

    Attributes:
        spec: the backbone's description.
        backbone: timm's model without its classifier.
        head: the linear classifier.
    """

    def __init__(self, spec: BackboneSpec, n_classes: int, seed: int = 0):
        """Build the architecture with random weights; only the head's initialisation depends on `seed`.

        The head is initialised like `nn.Linear` by default: uniform in ±1/√features.
        """
        super().__init__()
        self.spec = spec
        with torch.random.fork_rng(devices=[]):
            self.backbone = timm.create_model(spec.architecture, pretrained=False, num_classes=0)
            self.head = nn.Linear(cast(int, self.backbone.num_features), n_classes)
        generator = torch.Generator().manual_seed(seed)
        bound = 1 / math.sqrt(self.head.in_features)
        for parameter in self.head.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [b, 3, h, w] to logits [b, n_classes]."""
        return self.head(self.backbone(images))

    def steps(self) -> list[tuple[str, nn.Module]]:
        """The backbone's modules on `spec.path` as (name, module), with each Sequential replaced by its children."""

        def flatten(name: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
            if not isinstance(module, nn.Sequential):
                return [(name, module)]
            return [step for child, part in module.named_children() for step in flatten(f"{name}.{child}", part)]

        return [step for name in self.spec.path for step in flatten(name, self.backbone.get_submodule(name))]

    def shared_weights(self) -> dict[str, nn.Parameter]:
        """ω_S: the backbone's parameters by name."""
        return dict(self.backbone.named_parameters())

    def private_weights(self) -> dict[str, nn.Parameter]:
        """ω_P: the head's weight and bias by name."""
        return dict(self.head.named_parameters())


def save_weights(spec: BackboneSpec, state: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, with the spec of their backbone in the file's metadata.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        save_file({name: tensor.contiguous().cpu() for name, tensor in state.items()}, path, {_SPEC: spec.to_json()})
    except SafetensorError as error:
        raise OSError(f"{path}: {error}") from None


def _load_weights(path: Path) -> tuple[BackboneSpec, dict[str, Tensor]]:
    """Read a file of `save_weights`."""
    # Not memory-mapped: truncating a mapped file kills the process that reads it (SIGBUS).
    with safe_open(path, "pt", backend="pread") as file:
        spec, state = BackboneSpec.from_json((file.metadata() or {})[_SPEC]), file.get_tensors()
    if not timm.is_model(spec.architecture):  # timm would try to download other names
        raise ValueError(f"{spec.architecture!r} is not an architecture of timm's")
    return spec, state


def build_network(weights: Path, n_classes: int, seed: int = 0) -> Network:
    """The network that fine-tuning starts from, on the CPU: source weights in the backbone and a new head.

    Args:
        weights: a file that `save_weights` wrote from a source network's backbone, see `delta.sources.weights`.
        n_classes: the head's number of outputs.
        seed: determines the head's initialisation.

    Raises:
        UserError: the file cannot be read, or its tensors do not match its backbone.
    """
    try:
        spec, state = _load_weights(weights)
        network = Network(spec, n_classes, seed)
        network.backbone.load_state_dict(state)
    except _UNREADABLE as error:
        raise UserError(f"{weights}: not a source network's weights ({_reason(error)}): run `dvc repro`") from None
    return network.to(memory_format=torch.channels_last)


def save_classifier(spec: BackboneSpec, state: Mapping[str, Tensor], path: Path) -> None:
    """Write the source network's own classifier: its weight [S, D] and bias [S], or nothing if it has none.

    Raises:
        OSError: the file cannot be written.
    """
    save_weights(spec, state, path)


def load_classifier(path: Path) -> nn.Linear | None:
    """The linear layer that `save_classifier` wrote, on the CPU; None if there is none.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        _, state = _load_weights(path)
        if not state:
            return None
        classifier = nn.utils.skip_init(nn.Linear, *reversed(state["weight"].shape))
        classifier.load_state_dict(state)
    except _UNREADABLE as error:
        raise UserError(f"{path}: not a source network's classifier ({_reason(error)}): run `dvc repro`") from None
    return cast(nn.Linear, classifier)


def save_network(network: Network, run: Path) -> None:
    """Write a network's state into the folder of its run, as `weights.safetensors`."""
    save_weights(network.spec, network.state_dict(), run / _RUN_WEIGHTS)


def trained_network(run: Path) -> Network:
    """Load the network that `save_network` wrote, on the CPU.

    Raises:
        UserError: the folder has no such network.
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
