"""Compare networks by cross-validation on one data set's training images, and train the best one on all of them."""

from delta.analysis.comparison import Source
from delta.analysis.features import read_features
from delta.analysis.recommend import recommend
from delta.analysis.recommend_config import METHODS
from delta.data.packed.views import DefaultViewData
from delta.io.files import atomic_folder
from delta.networks.devices import pick_device
from delta.training.checkpoint import Checkpoint
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import best_folder, checkpoint_file, features_file, packed_folder, weights_file


def main(params: Params, dataset: str) -> None:
    settings, sources = params.recommend, {}
    for backbone in settings.backbones:
        data, config = DefaultViewData.open(packed_folder(dataset, backbone)), params.backbones[backbone]
        features = read_features(features_file(dataset, backbone), len(data.index))
        view = (config.learning_rate, config.resize, config.crop)
        sources[backbone] = Source(data, features, weights_file(dataset, backbone), *view)
    folder = best_folder(dataset)
    checkpoint = Checkpoint(checkpoint_file(folder), params.checkpoints.minutes)
    with atomic_folder(folder) as out:
        summary = recommend(
            out,
            sources,
            {method: params.method(method) for method in METHODS},
            settings,
            params.training,
            params.attention.normalization,
            pick_device(params.device),
            checkpoint,
        )
    checkpoint.beside("run").remove()
    checkpoint.remove()
    print(f"{summary}\nTo use it: python -m delta.predict {folder} IMAGE...")


if __name__ == "__main__":
    run_stage(main)
