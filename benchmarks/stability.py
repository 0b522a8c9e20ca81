"""Does every α and β of the paper's grid train? One run a cell, method by method, on the reproduced slice.

    python -m benchmarks.stability > benchmarks/stability.md        (after `dvc repro`; about 25 minutes on 2 cores)

A cell is the test top-1 of the last iterate in percent, first seed; chance is 10 %. A run whose loss is not finite
would read "diverged".
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

from delta.attention import read_factors
from delta.backbones import BACKBONES
from delta.devices import deterministic, pick_device
from delta.errors import UserError
from delta.evaluation import top1
from delta.networks import build_network
from delta.params import load_params
from delta.training import fine_tune
from delta.views import Packed
from stages import PARAMS, attention_file, packed_folder, weights_file

GRID = (0.0001, 0.001, 0.01, 0.1, 0.2)
PENALISED = ("l2_sp", "l2_sp_att", "delta_wo_att", "delta")


def accuracy(params, dataset: str, backbone: str, key: str, alpha: float, beta: float) -> str:
    data, device, seed = Packed.open(packed_folder(dataset, backbone)), pick_device(params.device), params.seeds[0]
    network, source = (
        build_network(BACKBONES[backbone], weights_file(backbone), len(data.classes), seed).to(device) for _ in range(2)
    )
    method = params.method(key).model_copy(update={"alpha": alpha, "beta": beta})
    factors = read_factors(attention_file(dataset, backbone, key))
    try:
        with deterministic():
            fine_tune(network, source, data, method, factors, params.training, params.backbones[backbone], seed)
            return f"{top1(network, data, 'test'):.1f}"
    except UserError as error:
        print(error, file=sys.stderr)
        return "diverged"


def main(params: Path = PARAMS) -> None:
    params = load_params(params)
    print("# Stability over the paper's grid\n\nTest top-1 (%), one run a cell: `python -m benchmarks.stability`.")
    for dataset, backbone, key in product(params.datasets, params.backbones, PENALISED):
        print(f"\n| {dataset}, {params.method(key).label} | {' | '.join(f'β = {beta:g}' for beta in GRID)} |")
        print(f"| --- |{' ---: |' * len(GRID)}")
        for alpha in GRID:
            cells = [accuracy(params, dataset, backbone, key, alpha, beta) for beta in GRID]
            print(f"| α = {alpha:g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
