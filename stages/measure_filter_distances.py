"""Measure how far L2-SP and DELTA moved each convolution filter of one network (Figure 5)."""

from delta.analysis.filter_distances import distances_by_seed
from delta.io.files import atomic_file
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import analysis_output, run_folder, weights_file


def main(params: Params, dataset: str, backbone: str) -> None:
    runs = {
        method: {seed: run_folder(dataset, backbone, method, seed) for seed in params.seeds}
        for method in ("l2_sp", "delta")
    }
    distances = distances_by_seed(weights_file(dataset, backbone), runs)
    with atomic_file(analysis_output(dataset, backbone, "filter_distances.csv")) as scratch:
        distances.to_csv(scratch, index=False)


if __name__ == "__main__":
    run_stage(main)
