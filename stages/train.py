"""Fine-tune with one method and one seed: for Table 1, in the improved view (Table 2) or with ExponentialLR."""

from delta.data.packed.views import DefaultViewData, ImprovedViewData, ViewData
from delta.io.files import atomic_folder
from delta.methods.selection import Selection
from delta.networks.devices import pick_device
from delta.training.checkpoint import Checkpoint
from delta.training.config import Recipe
from delta.training.run import write_run
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import (
    channel_weights_file,
    checkpoint_file,
    classifier_file,
    packed_folder,
    packed_whole_folder,
    run_folder,
    selection_file,
    weights_file,
)


def main(params: Params, dataset: str, backbone: str, method: str, seed: int, setting: str) -> float:
    config, start = params.backbones[backbone], params.starts.get(method)
    selection = Selection.read(selection_file(dataset, backbone, method, seed))
    chosen = selection.applied_to(params.method(method))
    parameters = {"alpha": chosen.alpha, "beta": chosen.beta} | (selection.values or {})
    print(f"{chosen.label}: {', '.join(f'{name} {value}' for name, value in parameters.items())}")
    recipe = Recipe(
        chosen,
        params.training,
        config.learning_rate,
        config.crop,
        seed,
        decay_per_epoch=params.learning_curves.decay_per_epoch if setting == "exponential" else None,
        test_every_epoch=setting == "exponential" or (setting == "default" and selection.test_every_epoch),
    )
    data: ViewData
    if setting == "improved":
        data = ImprovedViewData.open(packed_whole_folder(dataset, backbone), config.crop)
    else:
        data = DefaultViewData.open(packed_folder(dataset, backbone))
    folder = run_folder(dataset, backbone, method, seed, setting)
    checkpoint = Checkpoint(checkpoint_file(folder), params.checkpoints.minutes)
    with atomic_folder(folder) as out:
        seconds = write_run(
            out,
            recipe,
            data=data,
            weights=weights_file(dataset, backbone),
            channel_weights=None if start else channel_weights_file(dataset, backbone, method, seed),
            resize=config.resize,
            device=pick_device(params.device),
            checkpoint=checkpoint,
            classifier=classifier_file(dataset, backbone),
            start=run_folder(dataset, backbone, start, seed) if start else None,
        )
    checkpoint.remove()
    return seconds


if __name__ == "__main__":
    run_stage(main)
