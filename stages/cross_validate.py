"""Train and validate a method at every cell of its grid, for one fold of the training images."""

from delta.analysis.grid import cross_validate
from delta.data.packed.views import DefaultViewData
from delta.io.files import atomic_file
from delta.networks.devices import pick_device
from delta.training.checkpoint import Checkpoint
from delta.training.config import Recipe
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import checkpoint_file, classifier_file, fold_file, packed_folder, weights_file


def main(params: Params, dataset: str, backbone: str, method: str, fold: int) -> None:
    config, file = params.backbones[backbone], fold_file(dataset, backbone, method, fold)
    checkpoint = Checkpoint(checkpoint_file(file), params.checkpoints.minutes)
    rows = cross_validate(
        DefaultViewData.open(packed_folder(dataset, backbone)),
        fold,
        Recipe(params.method(method), params.training, config.learning_rate, config.crop, params.grid.seed),
        weights=weights_file(dataset, backbone),
        classifier=classifier_file(dataset, backbone),
        l2_fe=params.method("l2_fe"),
        grid=params.grid,
        normalization=params.attention.normalization,
        device=pick_device(params.device),
        checkpoint=checkpoint,
        start=params.method(start) if (start := params.starts.get(method)) else None,
    )
    with atomic_file(file) as scratch:
        rows.assign(dataset=dataset, backbone=backbone, method=method).to_csv(scratch, index=False)
    checkpoint.remove()


if __name__ == "__main__":
    run_stage(main)
