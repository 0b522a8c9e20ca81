"""Fit logistic regression on the frozen source network's features, for all seeds."""

from typing import cast

from delta.analysis.features import read_features
from delta.analysis.probe_run import write_probe
from delta.data.packed.index import read_index
from delta.io.files import atomic_folder
from delta.methods.probe import Probe
from delta.training.result import TestView
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import features_file, packed_folder, run_folder, weights_file


def main(params: Params, dataset: str, backbone: str) -> None:
    config, index = params.backbones[backbone], read_index(packed_folder(dataset, backbone))
    features = read_features(features_file(dataset, backbone), len(index))
    folders = {seed: run_folder(dataset, backbone, "probe", seed) for seed in params.seeds}
    with atomic_folder(folders[params.seeds[0]].parent) as out:
        for seed, folder in folders.items():
            (out / folder.name).mkdir()
            write_probe(
                out / folder.name,
                cast(Probe, params.method("probe")),
                features,
                index,
                weights=weights_file(dataset, backbone),
                seed=seed,
                view=TestView(resize=config.resize, crop=config.crop, crops=1),
                class_weights=params.training.class_weights,
            )


if __name__ == "__main__":
    run_stage(main)
