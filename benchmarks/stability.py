"""Whether training is stable for every α and β of the paper's grid: one run per cell and method on the slice.

    python -m benchmarks.stability > benchmarks/stability.md        (after `dvc repro`; about 30 minutes on 2 cores)

A cell is the final test top-1 accuracy of the first seed, in percent; chance is 10 %. It is "diverged" if the loss is
not finite.
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from delta.data.packed.views import DefaultViewData
from delta.io.errors import Diverged
from delta.networks.devices import pick_device
from delta.training.config import Recipe
from delta.training.result import RunResult
from delta.training.run import write_run
from stages.common.params import Params, load_params
from stages.common.paths import PARAMS, channel_weights_file, packed_folder, weights_file

GRID = (0.0001, 0.001, 0.01, 0.1, 0.2)
PENALISED = ("l2_sp", "l2_sp_att", "delta_wo_att", "delta")


def accuracy(params: Params, dataset: str, backbone: str, key: str, alpha: float, beta: float) -> str:
    config, method = params.backbones[backbone], params.method(key).model_copy(update={"alpha": alpha, "beta": beta})
    recipe = Recipe(method, params.training, config.learning_rate, config.crop, params.seeds[0])
    with TemporaryDirectory() as out:
        try:
            write_run(
                Path(out),
                recipe,
                data=DefaultViewData.open(packed_folder(dataset, backbone)),
                weights=weights_file(dataset, backbone),
                channel_weights=channel_weights_file(dataset, backbone, key, params.seeds[0]),
                resize=config.resize,
                device=pick_device(params.device),
            )
        except Diverged as error:
            print(error, file=sys.stderr)
            return "diverged"
        return f"{RunResult.read(Path(out)).top1:.1f}"


def main() -> None:
    params = load_params(PARAMS)
    print("# Stability over the paper's grid\n\nTest top-1 (%), one run per cell: `python -m benchmarks.stability`.")
    views = ", ".join(f"{view.crop} pixels, learning rate {view.learning_rate:g}" for view in params.backbones.values())
    print(f"{params.training.iterations} iterations, {views}.")
    for dataset, backbone, key in product(params.datasets, params.backbones, PENALISED):
        print(f"\n| {dataset}, {params.method(key).label} | {' | '.join(f'β = {beta:g}' for beta in GRID)} |")
        print(f"| --- |{' ---: |' * len(GRID)}")
        for alpha in GRID:
            cells = [accuracy(params, dataset, backbone, key, alpha, beta) for beta in GRID]
            print(f"| α = {alpha:g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
