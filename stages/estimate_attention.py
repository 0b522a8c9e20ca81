"""Estimate filter importance with one seed's L2-FE network, and write each method's attention from it.

A file for every method, uniform for those that use no learned attention, lets each training run depend on exactly
the attention it uses.
"""

from delta.attention import write_attention
from delta.devices import pick_device
from delta.files import whole_folder
from delta.params import Params
from delta.regularizers import METHODS
from delta.runs import run_importance
from stages import attention_file, attention_folder, packed_folder, run_folder, run_stage


def main(params: Params, dataset: str, backbone: str) -> None:
    l2_fe = run_folder(dataset, backbone, "l2_fe", params.attention.seed)
    importance = run_importance(l2_fe, backbone, packed_folder(dataset, backbone), pick_device(params.device))
    with whole_folder(attention_folder(dataset, backbone)) as out:
        for key, method in METHODS.items():
            normalization = params.attention.normalization if method.uses_attention else None
            write_attention(out / attention_file(dataset, backbone, key).name, importance, normalization)


if __name__ == "__main__":
    run_stage(main)
