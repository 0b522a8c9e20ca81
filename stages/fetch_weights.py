"""Fetch the source network of one data set and backbone: its published weights, verified, as the backbone's own."""

from pathlib import Path

from delta.downloads import Downloads
from delta.files import whole_file
from delta.networks import save_weights
from delta.params import Params
from delta.weights import source_weights
from stages import CHECKSUMS, run_stage, weights_file


def main(params: Params, dataset: str, backbone: str) -> None:
    downloads = Downloads(Path(params.downloads.folder), CHECKSUMS, params.downloads.mirror)
    spec, state = source_weights(params.source_network(dataset, backbone), downloads)
    with whole_file(weights_file(dataset, backbone)) as scratch:
        save_weights(spec, state, scratch)


if __name__ == "__main__":
    run_stage(main)
