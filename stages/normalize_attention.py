"""Turn filter importance into one method's channel weights; a method without attention gets an empty table.

There is one file per method, so that a training run depends only on the attention that it uses.
"""

from delta.attention.normalization import channel_weights
from delta.io.files import atomic_file
from delta.methods.channel_weights import read_filter_table, write_channel_weights
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import channel_weights_file, importance_file


def main(params: Params, dataset: str, backbone: str, method: str) -> None:
    learned = {}
    if params.method(method).uses_attention:
        importance = read_filter_table(importance_file(dataset, backbone), "importance")
        learned = channel_weights(importance, params.attention.normalization)
    with atomic_file(channel_weights_file(dataset, backbone, method)) as scratch:
        write_channel_weights(scratch, learned)


if __name__ == "__main__":
    run_stage(main)
