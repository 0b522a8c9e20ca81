"""A training run on disk: trained, tested and written as one folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from delta.backbones import BACKBONES
from delta.devices import deterministic
from delta.evaluation import top1
from delta.factors import read_factors
from delta.networks import build_network, save_network
from delta.params import Input, Training
from delta.regularizers import Method
from delta.training import fine_tune
from delta.views import Packed


def write_run(
    out: Path,
    *,
    packed: Path,
    weights: Path,
    factors: Path | None,
    backbone: str,
    method: Method,
    view: Input,
    training: Training,
    seed: int,
    device: torch.device,
) -> None:
    """Fine-tune with one method and one seed, test the last iterate, and write the run into the folder `out`.

    Written are the network (see `delta.networks.save_network`), `curve.csv` (see `delta.training.fine_tune`) and
    `result.json`: top1 on the test images and train_top1, in percent, and the class names by target.

    Args:
        packed: a packed data set's folder.
        weights: the backbone's source weights.
        factors: the method's file of factors C·W_j; None for a method whose penalty reads none.

    Raises:
        UserError: an input cannot be read, or the run diverged.
    """
    data = Packed.open(packed)
    network, source = (
        build_network(BACKBONES[backbone], weights, len(data.classes), seed).to(device) for _ in ("target", "source")
    )
    multipliers = {
        layer: torch.tensor(values, dtype=torch.float32)
        for layer, values in (read_factors(factors) if factors else {}).items()
    }
    with deterministic():
        curve = fine_tune(network, source, data, method, multipliers, training, view, seed)
        result = {"top1": top1(network, data, "test"), "train_top1": top1(network, data, "train")}
    save_network(network, out)
    curve.to_csv(out / "curve.csv", index=False)
    (out / "result.json").write_text(json.dumps(result | {"classes": data.classes}, indent=1) + "\n", encoding="utf-8")
