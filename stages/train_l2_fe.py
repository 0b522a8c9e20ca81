"""Train L2-FE with one seed: a new classifier on the frozen source network."""

from delta.checkpoints import Checkpoint
from delta.devices import pick_device
from delta.files import whole_folder
from delta.params import Params
from delta.runs import write_run
from delta.views import Packed
from stages import checkpoint_file, packed_folder, run_folder, run_stage, weights_file


def main(params: Params, dataset: str, backbone: str, seed: int) -> None:
    folder = run_folder(dataset, backbone, "l2_fe", seed)
    checkpoint = Checkpoint(checkpoint_file(folder), params.checkpoints.minutes)
    with whole_folder(folder) as out:
        write_run(
            out,
            data=Packed.open(packed_folder(dataset, backbone)),
            weights=weights_file(dataset, backbone),
            factors=None,
            method=params.l2_fe,
            view=params.backbones[backbone],
            training=params.training,
            seed=seed,
            device=pick_device(params.device),
            checkpoint=checkpoint,
        )
    checkpoint.remove()


if __name__ == "__main__":
    run_stage(main)
