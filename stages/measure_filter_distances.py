"""Measure how far L2-SP and DELTA moved each convolution filter of one network (Figure 5)."""

from delta.files import whole_file
from delta.filter_distances import mean_distances
from delta.params import Params
from stages import distances_file, run_folder, run_stage, weights_file


def main(params: Params, dataset: str, backbone: str) -> None:
    runs = {
        method: [run_folder(dataset, backbone, method, seed) for seed in params.seeds] for method in ("l2_sp", "delta")
    }
    distances = mean_distances(weights_file(dataset, backbone), runs)
    with whole_file(distances_file(dataset, backbone)) as scratch:
        distances.to_csv(scratch, index=False)


if __name__ == "__main__":
    run_stage(main)
