"""Measure one method's activation at the annotated parts of the test images (Table 3)."""

from delta.datasets import read_parts
from delta.devices import pick_device
from delta.files import whole_file
from delta.params import Params
from delta.parts import part_activation
from stages import packed_folder, parts_file, raw_folder, run_folder, run_stage


def main(params: Params, dataset: str, backbone: str, method: str) -> None:
    raw = raw_folder(dataset)
    # L2-FE's backbone is the source network's, whatever the seed.
    seeds = params.seeds[:1] if method == "l2_fe" else params.seeds
    activation = part_activation(
        {seed: run_folder(dataset, backbone, method, seed) for seed in seeds},
        packed_folder(dataset, backbone),
        read_parts(params.datasets[dataset].format, raw),
        raw,
        pick_device(params.device),
    )
    with whole_file(parts_file(dataset, backbone, method)) as scratch:
        activation.to_csv(scratch, index=False)


if __name__ == "__main__":
    run_stage(main)
