"""Estimate filter importance with one seed's L2-FE network (Algorithm 1)."""

from delta.attention.importance import run_importance
from delta.io.files import atomic_file
from delta.methods.channel_weights import write_filter_table
from delta.networks.devices import pick_device
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import importance_file, packed_folder, run_folder


def main(params: Params, dataset: str, backbone: str) -> None:
    l2_fe = run_folder(dataset, backbone, "l2_fe", params.attention.seed)
    packed, device = packed_folder(dataset, backbone), pick_device(params.device)
    importance = run_importance(l2_fe, packed, params.attention.estimator, device)
    with atomic_file(importance_file(dataset, backbone)) as scratch:
        write_filter_table(scratch, importance, "importance")


if __name__ == "__main__":
    run_stage(main)
