"""Fetch one source network's weights, verify their checksum and keep the backbone's."""

from safetensors.torch import save_file

from delta.backbones import BACKBONES
from delta.files import whole_file
from delta.networks import extract_weights, published_weights
from delta.params import Params
from stages import run_stage, weights_file


def main(params: Params, backbone: str) -> None:
    spec = BACKBONES[backbone]
    state = extract_weights(spec, published_weights(spec))
    with whole_file(weights_file(backbone)) as scratch:
        save_file(state, scratch)


if __name__ == "__main__":
    run_stage(main)
