"""Measure one method's activation at the annotated parts of the test images (Table 3)."""

from delta.analysis.parts import part_activation
from delta.data.listing import read_parts
from delta.io.files import atomic_file
from delta.networks.devices import pick_device
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import analysis_output, index_folder, packed_folder, run_folder
from stages.common.sources import images_of


def main(params: Params, dataset: str, backbone: str, method: str) -> None:
    # L2-FE's backbone is the source network's, whatever the seed.
    seeds = params.part_activation.seeds[:1] if method == "l2_fe" else params.part_activation.seeds
    activation = part_activation(
        {seed: run_folder(dataset, backbone, method, seed) for seed in seeds},
        packed_folder(dataset, backbone),
        read_parts(index_folder(dataset)),
        images_of(params, dataset),
        pick_device(params.device),
        params.part_activation.layer,
    )
    with atomic_file(analysis_output(dataset, backbone, f"part_activation/{method}.csv")) as scratch:
        activation.to_csv(scratch, index=False)


if __name__ == "__main__":
    run_stage(main)
