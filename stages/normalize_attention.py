"""Turn filter importance into each method's factors, uniform for those that use no learned attention.

A file a method lets each training run depend on exactly the attention it uses.
"""

from delta.factors import write_factors
from delta.files import whole_folder
from delta.methods import METHODS
from delta.params import Params
from stages import factors_file, factors_folder, importance_file, run_stage


def main(params: Params, dataset: str, backbone: str) -> None:
    with whole_folder(factors_folder(dataset, backbone)) as out:
        for key, method in METHODS.items():
            normalization = params.attention.normalization if method.uses_attention else None
            file = out / factors_file(dataset, backbone, key).name
            write_factors(file, importance_file(dataset, backbone), normalization)


if __name__ == "__main__":
    run_stage(main)
