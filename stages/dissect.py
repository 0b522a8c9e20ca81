"""Dissect one run's network: which annotated concept each unit of a layer detects (Table 4)."""

from pathlib import Path

from delta.analysis.concepts import Concepts
from delta.analysis.dissection import dissect
from delta.analysis.unit_gallery import write_gallery
from delta.io.files import atomic_folder
from delta.networks.devices import pick_device
from delta.networks.network import trained_network
from delta.training.checkpoint import Checkpoint
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import analysis_output, checkpoint_file, run_folder


def main(params: Params, dataset: str, backbone: str, method: str, seed: int) -> None:
    network = trained_network(run_folder(dataset, backbone, method, seed)).to(pick_device(params.device))
    concepts, crop = Concepts.open(Path(params.dissection.concepts)), params.backbones[backbone].crop
    folder = analysis_output(dataset, backbone, f"dissection/{method}/{seed}")
    checkpoint = Checkpoint(checkpoint_file(folder), params.checkpoints.minutes)
    dissection = dissect(network, concepts, crop, params.dissection.layer, progress=True, checkpoint=checkpoint)
    with atomic_folder(folder) as out:
        dissection.units.to_csv(out / "units.csv", index=False)
        write_gallery(out, dissection, network, concepts, crop)
    checkpoint.remove()


if __name__ == "__main__":
    run_stage(main)
