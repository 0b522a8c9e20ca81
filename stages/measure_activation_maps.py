"""Compute activation maps of the source network and of one seed's fine-tuned networks (Figures 1, 6 and 7)."""

from delta.analysis.activation_maps import activation_maps
from delta.analysis.map_files import METHODS, write_maps
from delta.io.files import atomic_folder
from delta.networks.devices import pick_device
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import analysis_output, packed_folder, run_folder


def main(params: Params, dataset: str, backbone: str) -> None:
    asked = params.activation_maps
    shown = activation_maps(
        {method: run_folder(dataset, backbone, method, asked.seed) for method in METHODS},
        packed_folder(dataset, backbone),
        asked.images,
        asked.filters,
        pick_device(params.device),
        asked.layer,
    )
    with atomic_folder(analysis_output(dataset, backbone, "activation_maps")) as out:
        write_maps(out, shown)


if __name__ == "__main__":
    run_stage(main)
