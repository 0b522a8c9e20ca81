"""Write a finished run's network for other programs, as ONNX and safetensors: `python -m delta.export RUN`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import onnxruntime
import timm
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from safetensors.torch import save_file
from torch import Tensor, nn

from delta.data.packed.views import input_statistics, normalised
from delta.io.errors import UserError, exit_on_user_error
from delta.io.files import atomic_file
from delta.networks.network import Network
from delta.predict.classifier import Classifier

TOLERANCE = 1e-4  # of a logit, relative to the largest one where that is above 1

_HOW_TO_USE = """pixels: uint8 [batch, {crop}, {crop}, 3], RGB; the input statistics are part of the model.
{view}
logits: float [batch, {n_classes}], in the order of `classes` in the metadata; their softmax is the probabilities."""
_VIEWS = {
    1: "An image is resize_square to {crop} x {crop}, antialiased bilinear.",
    10: "An image's shorter edge becomes {resize}, antialiased bilinear; the logits of ten crops, the corners and the "
    "centre and the same of the mirrored image, are averaged. The centre crop alone is a little less accurate.",
}


class FromPixels(nn.Module):
    """A network that takes pixels as image libraries give them; normalising them is part of it."""

    def __init__(self, network: nn.Module, statistics: Tensor):
        super().__init__()
        self.network = network
        self.register_buffer("statistics", statistics)

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [b, crop, crop, 3] to logits [b, n_classes]."""
        return self.network(normalised(pixels, self.statistics))


def export(classifier: Classifier, out: Path) -> list[Path]:
    """Write `model.onnx` and `model.safetensors` into the folder `out`, both or neither.

    The ONNX model takes pixels, uint8 [b, crop, crop, 3] in RGB, and gives logits, float [b, n_classes]; b is free. The
    tensors of the safetensors file have timm's names. Both carry `facts` in their metadata, as JSON under `model`.

    Args:
        classifier: on the CPU.

    Returns:
        The two files.

    Raises:
        UserError: the ONNX model's logits in onnxruntime are not the network's.
    """
    network = classifier.network
    # One entry: safetensors writes several in a random order.
    model, metadata = as_timm_builds_it(network), {"model": json.dumps(facts(classifier))}
    from_pixels = FromPixels(model, input_statistics(network.spec, torch.device("cpu"))).eval()
    files = [out / "model.onnx", out / "model.safetensors"]
    with atomic_file(files[0]) as onnx_file, atomic_file(files[1]) as weights_file:
        _write_onnx(from_pixels, classifier, metadata, onnx_file)
        _check(onnx_file, classifier)
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights_file, metadata)
    return files


def facts(classifier: Classifier) -> dict[str, object]:
    """What a program needs to know of a model: class names, input statistics, how it sees images, and what it is."""
    spec = classifier.network.spec
    return {
        "classes": classifier.classes,
        "mean": spec.mean,
        "std": spec.std,
        **classifier.view.model_dump(),
        "architecture": spec.architecture,
        "source_network": spec.name,
    }


def as_timm_builds_it(network: Network) -> nn.Module:
    """The same network with timm's own classifier in place of the head, so that all tensors have timm's names."""
    with torch.random.fork_rng(devices=[]):
        model = timm.create_model(network.spec.architecture, num_classes=network.head.out_features).eval()
    name = model.pretrained_cfg["classifier"]
    head = {f"{name}.{part}": tensor for part, tensor in network.head.state_dict().items()}
    model.load_state_dict({**network.backbone.state_dict(), **head})
    return model


def _write_onnx(model: FromPixels, classifier: Classifier, metadata: dict[str, str], path: Path) -> None:
    view = classifier.view
    pixels = torch.zeros(2, view.crop, view.crop, 3, dtype=torch.uint8)
    program = torch.onnx.export(
        model,
        (pixels,),
        dynamo=True,
        verbose=False,
        input_names=["pixels"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    ClearMetadataAndDocStringPass()(program.model)  # each node has the stack that it came from
    program.model.metadata_props.clear()
    program.model.metadata_props.update(metadata)
    program.model.doc_string = _HOW_TO_USE.format(
        crop=view.crop, n_classes=len(classifier.classes), view=_VIEWS[view.crops].format(**view.model_dump())
    )
    program.save(path, external_data=False)


def _check(onnx_file: Path, classifier: Classifier) -> None:
    """Compare onnxruntime's logits of three random images with the network's."""
    size = (3, classifier.view.crop, classifier.view.crop, 3)
    pixels = torch.randint(256, size, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    crops = pixels[:, None].expand(-1, classifier.view.crops, -1, -1, -1)
    expected = classifier.logits(crops)
    session = onnxruntime.InferenceSession(onnx_file.read_bytes(), providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"pixels": pixels.numpy()})
    difference = (torch.from_numpy(found) - expected).abs().max().item()
    if not difference <= TOLERANCE * max(1, expected.abs().max().item()):
        raise UserError(f"the ONNX model's logits differ from the network's by {difference:.2g}: nothing is written")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; the two files' paths go to standard output."""
    options = parser().parse_args(arguments)
    with exit_on_user_error():
        for file in export(Classifier.open(options.run), options.out):
            print(file)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m delta.export", description=__doc__)
    made.add_argument("run", type=Path, metavar="RUN", help="its folder, such as runs/photographs/…/delta/0")
    made.add_argument(
        "--out", type=Path, default=Path("exported"), metavar="FOLDER", help="takes the two files (default: exported)"
    )
    return made


if __name__ == "__main__":
    main()
