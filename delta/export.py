"""Export a run's network as ONNX and safetensors, by default the recommended one's: `python -m delta.export [RUN]`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from delta.analysis.unknown import similarity
from delta.data.packed.views import input_statistics, normalised
from delta.io.errors import UserError, exit_on_user_error
from delta.io.files import atomic_file
from delta.networks.architectures import timm
from delta.networks.network import Network
from delta.predict.classifier import Classifier, recommended_run

TOLERANCE = 1e-4  # of logits; relative to the largest one if that is above 1

_USAGE = """pixels: uint8 [batch, {crop}, {crop}, 3], RGB; normalisation is part of the model.
{preprocessing}
logits: float [batch, {n_classes}], in the order of `classes` in the metadata; their softmax is the probabilities."""
_PREPROCESSING = {
    1: "Resize images to {crop} x {crop}, ignoring the aspect ratio, antialiased bilinear.",
    10: "Resize the shorter edge to {resize}, antialiased bilinear, and average the logits of ten crops: corners and "
    "centre, of the image and of its mirror image. The centre crop alone is slightly less accurate.",
}


_RECOMMENDED = """ Divide them by `temperature` in the metadata first.
similarity: float [batch], to the nearest class; where it is below `threshold` in the metadata, an image is none of the
classes."""


class FromPixels(nn.Module):
    """A network with the normalisation of its inputs included, so that it takes uint8 pixels."""

    def __init__(self, network: Network, means: Tensor | None):
        """
        Args:
            means: of the classes' features, to return the similarity to them too, see `delta.analysis.unknown`.
        """
        super().__init__()
        self.backbone, self.head = network.backbone, network.head
        self.statistics: Tensor
        self.means: Tensor | None
        self.register_buffer("statistics", input_statistics(network.spec, torch.device("cpu")))
        self.register_buffer("means", means)

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """uint8 [b, crop, crop, 3] to logits [b, n_classes] and, with class means, similarity [b]."""
        features = self.backbone(normalised(pixels, self.statistics))
        logits = self.head(features)
        return logits if self.means is None else (logits, similarity(features, self.means))


def export(classifier: Classifier, out: Path) -> list[Path]:
    """Write `model.onnx` and `model.safetensors` into the folder `out`, both or neither.

    The ONNX model maps pixels, uint8 [b, crop, crop, 3] in RGB, to logits, float [b, n_classes], for any b; that of a
    recommended run also to the similarity to the nearest class, float [b]. The tensors of the safetensors file have
    timm's names. Both have `model_metadata` as JSON in their metadata, under `model`.

    Args:
        classifier: on the CPU.

    Returns:
        The two files.

    Raises:
        UserError: a package is missing, or the ONNX model's outputs in onnxruntime differ from the network's.
    """
    # The extra `export` of the package: prediction does without it.
    if missing := [name for name in ("onnxscript", "onnx_ir", "onnxruntime") if not find_spec(name)]:
        advice = "pip install -r requirements.txt, or in a clone pip install '.[export]'"
        raise UserError(f"{', '.join(missing)} not installed: {advice}")
    network = classifier.network
    # A single entry, as safetensors writes several in random order.
    model, metadata = to_timm_model(network), {"model": json.dumps(model_metadata(classifier))}
    from_pixels = FromPixels(network, classifier.familiar.means if classifier.familiar else None).eval()
    files = [out / "model.onnx", out / "model.safetensors"]
    with atomic_file(files[0]) as onnx_file, atomic_file(files[1]) as weights_file:
        _write_onnx(from_pixels, classifier, metadata, onnx_file)
        _check(onnx_file, classifier)
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights_file, metadata)
        weights_file.chmod(onnx_file.stat().st_mode & 0o777)  # safetensors lets the owner alone read what it writes
    return files


def model_metadata(classifier: Classifier) -> dict[str, object]:
    """What is needed to use a model: class names, input statistics, test view, architecture and source network.

    Of a recommended run also the temperature of its logits, and the threshold of the similarity.
    """
    spec, familiar = classifier.network.spec, classifier.familiar
    recommended = {"temperature": classifier.temperature, "threshold": familiar.threshold} if familiar else {}
    return {
        "classes": classifier.classes,
        "mean": spec.mean,
        "std": spec.std,
        **classifier.view.model_dump(),
        "architecture": spec.architecture,
        "source_network": spec.name,
        **recommended,
    }


def to_timm_model(network: Network) -> nn.Module:
    """The same network as a model of timm's, with the head as its classifier: its tensors have timm's names."""
    with torch.random.fork_rng(devices=[]):
        model = timm.create_model(network.spec.architecture, num_classes=network.head.out_features).eval()
    name = cast(dict[str, Any], model.pretrained_cfg)["classifier"]
    head = {f"{name}.{part}": tensor for part, tensor in network.head.state_dict().items()}
    model.load_state_dict({**network.backbone.state_dict(), **head})
    return model


def _write_onnx(model: FromPixels, classifier: Classifier, metadata: dict[str, str], path: Path) -> None:
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    view = classifier.view
    pixels = torch.zeros(2, view.crop, view.crop, 3, dtype=torch.uint8)
    program = torch.onnx.export(
        model,
        (pixels,),
        dynamo=True,
        verbose=False,
        input_names=["pixels"],
        output_names=_outputs(classifier),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    assert program is not None  # as `dynamo` is True
    ClearMetadataAndDocStringPass()(program.model)  # the nodes' stack traces
    program.model.metadata_props.clear()
    program.model.metadata_props.update(metadata)
    program.model.doc_string = _USAGE.format(
        crop=view.crop,
        n_classes=len(classifier.classes),
        preprocessing=_PREPROCESSING[view.crops].format(**view.model_dump()),
    )
    if classifier.familiar:
        program.model.doc_string += _RECOMMENDED
    program.save(path, external_data=False)


def _check(onnx_file: Path, classifier: Classifier) -> None:
    """Raise UserError if the outputs of onnxruntime and of the network differ on three random images."""
    import onnxruntime

    size = (3, classifier.view.crop, classifier.view.crop, 3)
    pixels = torch.randint(256, size, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    crops = pixels[:, None].expand(-1, classifier.view.crops, -1, -1, -1)
    names = _outputs(classifier)
    session = onnxruntime.InferenceSession(onnx_file.read_bytes(), providers=["CPUExecutionProvider"])
    outputs = session.run(names, {"pixels": pixels.numpy()})
    for name, found, expected in zip(names, outputs, classifier.outputs(crops), strict=False):
        assert expected is not None  # as it is named
        difference = (torch.from_numpy(found) - expected).abs().max().item()
        if not difference <= TOLERANCE * max(1, expected.abs().max().item()):
            raise UserError(
                f"the ONNX model's {name} differ from the network's by {difference:.2g}: no files were written"
            )


def _outputs(classifier: Classifier) -> list[str]:
    """The names of the ONNX model's outputs."""
    return ["logits", "similarity"] if classifier.familiar else ["logits"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command: print the paths of the two files."""
    options = parser().parse_args(arguments)
    with exit_on_user_error():
        run = options.run or recommended_run(Path())
        for file in export(Classifier.open(run), options.out):
            print(file)


def parser() -> argparse.ArgumentParser:
    """The command-line parser."""
    result = argparse.ArgumentParser(prog="python -m delta.export", description=__doc__)
    result.add_argument(
        "run",
        type=Path,
        nargs="?",
        metavar="RUN",
        help="the run's folder (default: the recommended one, runs/<data set>/best)",
    )
    result.add_argument(
        "--out",
        type=Path,
        default=Path("exported"),
        metavar="FOLDER",
        help="where to write the two files (default: exported)",
    )
    return result


if __name__ == "__main__":
    main()
