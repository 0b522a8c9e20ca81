"""Estimate filter importance with a seed's L2-FE network (Algorithm 1).

A seed that shares another one's attention gets an empty table.
"""

from delta.attention.importance import run_importance
from delta.io.files import atomic_file
from delta.methods.channel_weights import write_filter_table
from delta.networks.devices import pick_device
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import importance_file, packed_folder, run_folder


def main(params: Params, dataset: str, backbone: str, seed: int) -> None:
    importance = {}
    if params.attention.seed in ("own", seed):
        l2_fe, packed = run_folder(dataset, backbone, "l2_fe", seed), packed_folder(dataset, backbone)
        importance = run_importance(l2_fe, packed, params.attention.estimator, pick_device(params.device))
    with atomic_file(importance_file(dataset, backbone, seed)) as scratch:
        write_filter_table(scratch, importance, "importance")


if __name__ == "__main__":
    run_stage(main)
