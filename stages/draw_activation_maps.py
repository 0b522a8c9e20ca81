"""Draw what one seed's networks are activated by: the source's and the fine-tuned ones' (Figures 1, 6 and 7)."""

from delta.activation_maps import activation_maps
from delta.devices import pick_device
from delta.files import whole_folder
from delta.map_figures import write_pictures
from delta.params import MAPPED_METHODS, Params
from stages import maps_folder, packed_folder, run_folder, run_stage


def main(params: Params, dataset: str, backbone: str) -> None:
    asked = params.activation_maps
    shown = activation_maps(
        {method: run_folder(dataset, backbone, method, asked.seed) for method in MAPPED_METHODS},
        packed_folder(dataset, backbone),
        asked.images,
        asked.filters,
        pick_device(params.device),
    )
    with whole_folder(maps_folder(dataset, backbone)) as out:
        write_pictures(out, shown, dataset, backbone)


if __name__ == "__main__":
    run_stage(main)
