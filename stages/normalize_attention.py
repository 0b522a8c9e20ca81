"""Turn filter importance into one method's channel weights, a file per seed; without attention, the files are empty.

Each method has its own files, so that a training run depends only on the attention that it uses.
"""

from delta.attention.normalization import channel_weights
from delta.io.files import atomic_folder
from delta.methods.channel_weights import read_filter_table, write_channel_weights
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import channel_weights_file, channel_weights_folder, importance_file


def main(params: Params, dataset: str, backbone: str, method: str) -> None:
    with atomic_folder(channel_weights_folder(dataset, backbone, method)) as out:
        for seed in params.seeds:
            learned = {}
            if params.method(method).uses_attention:
                learned_from = seed if params.attention.seed == "own" else params.attention.seed
                importance = read_filter_table(importance_file(dataset, backbone, learned_from), "importance")
                learned = channel_weights(importance, params.attention.normalization)
            write_channel_weights(out / channel_weights_file(dataset, backbone, method, seed).name, learned)


if __name__ == "__main__":
    run_stage(main)
