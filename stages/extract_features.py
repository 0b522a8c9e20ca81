"""Compute the frozen source network's pooled features of all images of one data set, for one backbone."""

from delta.analysis.features import pooled_features, write_features
from delta.data.packed.views import DefaultViewData
from delta.io.files import atomic_file
from delta.networks.devices import pick_device
from delta.networks.network import build_network
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import features_file, packed_folder, weights_file


def main(params: Params, dataset: str, backbone: str) -> None:
    data = DefaultViewData.open(packed_folder(dataset, backbone))
    network = build_network(weights_file(dataset, backbone), len(data.classes)).to(pick_device(params.device))
    with atomic_file(features_file(dataset, backbone)) as scratch:
        write_features(scratch, pooled_features(network, data))


if __name__ == "__main__":
    run_stage(main)
