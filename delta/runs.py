"""A training run on disk: trained, tested and written as one folder; and read again."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from delta.attention import filter_importance, read_factors
from delta.backbones import BACKBONES
from delta.devices import deterministic
from delta.errors import UserError
from delta.evaluation import top1
from delta.networks import Network, build_network
from delta.params import Input, Training
from delta.regularizers import Method
from delta.training import fine_tune
from delta.views import Packed

WEIGHTS = "weights.safetensors"
RESULT = "result.json"


def write_run(
    out: Path,
    *,
    packed: Path,
    weights: Path,
    attention: Path | None,
    backbone: str,
    method: Method,
    view: Input,
    training: Training,
    seed: int,
    device: torch.device,
) -> None:
    """Fine-tune with one method and one seed, test the last iterate, and write the run into the folder `out`.

    Written are `weights.safetensors` (the network's state), `curve.csv` (see `delta.training.fine_tune`) and
    `result.json`: top1 on the test images and train_top1, in percent, and the class names by target.

    Args:
        packed: a packed data set's folder.
        weights: the backbone's source weights.
        attention: the method's attention file; None for a method that compares nothing with the source.

    Raises:
        UserError: an input cannot be read, or the run diverged.
    """
    data = Packed.open(packed)
    network, source = (
        build_network(BACKBONES[backbone], weights, len(data.classes), seed).to(device) for _ in ("target", "source")
    )
    factors = read_factors(attention) if attention else {}
    with deterministic():
        curve = fine_tune(network, source, data, method, factors, training, view, seed)
        result = {"top1": top1(network, data, "test"), "train_top1": top1(network, data, "train")}
    save_file({name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}, out / WEIGHTS)
    curve.to_csv(out / "curve.csv", index=False)
    (out / RESULT).write_text(json.dumps(result | {"classes": data.classes}, indent=1) + "\n", encoding="utf-8")


def read_network(run: Path, backbone: str) -> Network:
    """The trained network of a run's folder, on the CPU.

    Raises:
        UserError: the folder holds no such run.
    """
    try:
        state = load_file(run / WEIGHTS)
        network = Network(BACKBONES[backbone], len(state["head.bias"]))
        network.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise UserError(f"{run}: not a run of {backbone} ({' '.join(str(error).split())}): run `dvc repro`") from None
    return network


def run_importance(run: Path, backbone: str, packed: Path, device: torch.device) -> dict[str, torch.Tensor]:
    """Filter importance by an L2-FE run's network over a packed data set, see `delta.attention.filter_importance`."""
    network = read_network(run, backbone).to(device)
    with deterministic():
        return filter_importance(network, Packed.open(packed), progress=True)
