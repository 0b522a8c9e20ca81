"""Dissect one run's network: which annotated concept each unit of a layer detects (Table 4)."""

from pathlib import Path

from delta.checkpoints import Checkpoint
from delta.concepts import Concepts
from delta.devices import pick_device
from delta.dissection import dissect
from delta.files import whole_folder
from delta.networks import trained_network
from delta.params import Params
from delta.unit_gallery import write_gallery
from stages import checkpoint_file, dissection_folder, run_folder, run_stage


def main(params: Params, dataset: str, backbone: str, method: str, seed: int) -> None:
    network = trained_network(run_folder(dataset, backbone, method, seed)).to(pick_device(params.device))
    concepts, crop = Concepts.open(Path(params.dissection.concepts)), params.backbones[backbone].crop
    folder = dissection_folder(dataset, backbone, method, seed)
    checkpoint = Checkpoint(checkpoint_file(folder), params.checkpoints.minutes)
    dissection = dissect(network, concepts, crop, params.dissection.layer, progress=True, checkpoint=checkpoint)
    with whole_folder(folder) as out:
        dissection.units.to_csv(out / "units.csv", index=False)
        write_gallery(out, dissection, network, concepts, crop)
    checkpoint.remove()


if __name__ == "__main__":
    run_stage(main)
