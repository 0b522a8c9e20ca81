"""Download or copy, verify and convert the source weights of one data set and backbone.

The source network's own classifier is written beside the backbone; the file is empty if it has none."""

from pathlib import Path

from delta.io.downloads import Downloads
from delta.io.files import atomic_file
from delta.networks.network import save_classifier, save_weights
from delta.sources.weights import source_classifier, source_weights
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import CHECKSUMS, classifier_file, weights_file


def main(params: Params, dataset: str, backbone: str) -> None:
    downloads = Downloads(Path(params.downloads.folder), CHECKSUMS, params.downloads.mirror)
    source = params.datasets[dataset].networks.get(backbone, params.backbones[backbone])
    spec, state = source_weights(source, downloads)
    with atomic_file(weights_file(dataset, backbone)) as scratch:
        save_weights(spec, state, scratch)
    with atomic_file(classifier_file(dataset, backbone)) as scratch:
        save_classifier(spec, source_classifier(source, downloads), scratch)


if __name__ == "__main__":
    run_stage(main)
