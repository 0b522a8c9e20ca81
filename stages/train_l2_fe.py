"""Train L2-FE with one seed: a new classifier on the frozen source network."""

from delta.data.packed.views import DefaultViewData
from delta.io.files import atomic_folder
from delta.networks.devices import pick_device
from delta.training.checkpoint import Checkpoint
from delta.training.config import Recipe
from delta.training.run import write_run
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import checkpoint_file, packed_folder, run_folder, weights_file


def main(params: Params, dataset: str, backbone: str, seed: int) -> float:
    config, folder = params.backbones[backbone], run_folder(dataset, backbone, "l2_fe", seed)
    checkpoint = Checkpoint(checkpoint_file(folder), params.checkpoints.minutes)
    with atomic_folder(folder) as out:
        seconds = write_run(
            out,
            Recipe(params.method("l2_fe"), params.training, config.learning_rate, config.crop, seed),
            data=DefaultViewData.open(packed_folder(dataset, backbone)),
            weights=weights_file(dataset, backbone),
            channel_weights=None,
            resize=config.resize,
            device=pick_device(params.device),
            checkpoint=checkpoint,
        )
    checkpoint.remove()
    return seconds


if __name__ == "__main__":
    run_stage(main)
