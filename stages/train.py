"""Fine-tune with one method and one seed: as for Table 1, in the improved view (Table 2) or under ExponentialLR."""

from delta.checkpoints import Checkpoint
from delta.devices import pick_device
from delta.files import whole_folder
from delta.grid_result import with_selection
from delta.params import Params
from delta.runs import write_run
from delta.views import Packed, PackedWhole
from stages import (
    checkpoint_file,
    factors_file,
    packed_folder,
    packed_whole_folder,
    run_folder,
    run_stage,
    selection_file,
    weights_file,
)


def main(params: Params, dataset: str, backbone: str, method: str, seed: int, setting: str) -> None:
    view = params.backbones[backbone]
    chosen = with_selection(params.method(method), selection_file(dataset, backbone, method))
    print(f"{chosen.label}: alpha {chosen.alpha:g}, beta {chosen.beta:g}")
    if setting == "improved":
        data = PackedWhole.open(packed_whole_folder(dataset, backbone), view.crop)
    else:
        data = Packed.open(packed_folder(dataset, backbone))
    folder = run_folder(dataset, backbone, method, seed, setting)
    checkpoint = Checkpoint(checkpoint_file(folder), params.checkpoints.minutes)
    with whole_folder(folder) as out:
        write_run(
            out,
            data=data,
            weights=weights_file(dataset, backbone),
            factors=factors_file(dataset, backbone, method),
            method=chosen,
            view=view,
            training=params.training,
            seed=seed,
            device=pick_device(params.device),
            decay_per_epoch=params.learning_curves.decay_per_epoch if setting == "exponential" else None,
            test_every_epoch=setting != "improved",
            checkpoint=checkpoint,
        )
    checkpoint.remove()


if __name__ == "__main__":
    run_stage(main)
