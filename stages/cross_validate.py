"""Train and validate DELTA at every cell of the grid of α and β, for one fold of the training images."""

from delta.checkpoints import Checkpoint
from delta.devices import pick_device
from delta.files import whole_file
from delta.grid import cross_validate
from delta.params import Params
from delta.views import Packed
from stages import checkpoint_file, fold_file, packed_folder, run_stage, weights_file


def main(params: Params, dataset: str, backbone: str, fold: int) -> None:
    file = fold_file(dataset, backbone, fold)
    checkpoint = Checkpoint(checkpoint_file(file), params.checkpoints.minutes)
    rows = cross_validate(
        Packed.open(packed_folder(dataset, backbone)),
        fold,
        weights=weights_file(dataset, backbone),
        l2_fe=params.l2_fe,
        method=params.delta,
        grid=params.grid,
        normalization=params.attention.normalization,
        view=params.backbones[backbone],
        training=params.training,
        device=pick_device(params.device),
        checkpoint=checkpoint,
    )
    with whole_file(file) as scratch:
        rows.assign(dataset=dataset, backbone=backbone).to_csv(scratch, index=False)
    checkpoint.remove()


if __name__ == "__main__":
    run_stage(main)
