"""Estimate filter importance with one seed's L2-FE network (Algorithm 1)."""

from delta.attention import run_importance
from delta.devices import pick_device
from delta.factors import write_importance
from delta.files import whole_file
from delta.params import Params
from stages import importance_file, packed_folder, run_folder, run_stage


def main(params: Params, dataset: str, backbone: str) -> None:
    l2_fe = run_folder(dataset, backbone, "l2_fe", params.attention.seed)
    packed, device = packed_folder(dataset, backbone), pick_device(params.device)
    importance = run_importance(l2_fe, packed, params.attention.estimator, device)
    with whole_file(importance_file(dataset, backbone)) as scratch:
        write_importance(scratch, importance)


if __name__ == "__main__":
    run_stage(main)
