"""Exported models, used without this project: in onnxruntime and in timm."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from delta import export as exporter
from delta.data.packed.views import normalised
from delta.export import export
from delta.io.errors import UserError
from delta.networks.network import Network, trained_network
from delta.predict.classifier import Classifier
from delta.sources.catalogue import SourceNetwork
from delta.sources.weights import describe, published_network
from delta.training.result import TestView
from tests.helpers.tiny import SPEC, recommended, with_random_statistics

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")

pytestmark = pytest.mark.slice  # building ONNX models takes a quarter of a minute


def session(file: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory) -> Path:
    """A run exported by the command into its default folder."""
    with contextlib.chdir(tmp_path_factory.mktemp("somewhere")):
        exporter.main([str(run)])
        return Path("exported").resolve()


@pytest.mark.parametrize("count", [1, 5])
def test_onnxruntime_gives_the_logits_of_the_evaluation(exported, run, data, count):
    rows = data.rows("test")[:count]
    crops, _ = next(data.test_batches("test", SPEC, count, CPU))
    with torch.inference_mode():
        expected = trained_network(run).eval()(crops).numpy()
    (found,) = session(exported / "model.onnx").run(["logits"], {"pixels": data.test_view[rows]})
    assert np.abs(found - expected).max() < 1e-4
    assert np.ptp(expected) > 0.01  # otherwise any logits would agree


def test_a_missing_extra_is_one_line_with_the_command_to_install_it(run, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"onnxscript, onnx_ir, onnxruntime not installed: .* '\.\[export\]'$"):
        export(Classifier.open(run), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_onnx_file_describes_its_use(exported):
    model = session(exported / "model.onnx")
    (pixels,), (logits,) = model.get_inputs(), model.get_outputs()
    assert (pixels.name, pixels.type, pixels.shape[1:]) == ("pixels", "tensor(uint8)", [32, 32, 3])
    assert (logits.name, logits.type, logits.shape[1:]) == ("logits", "tensor(float)", [3])
    assert isinstance(pixels.shape[0], str)  # any batch size
    meta = model.get_modelmeta()
    assert json.loads(meta.custom_metadata_map["model"]) == {
        "classes": ["ant", "bee", "cow"],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "resize": 40,
        "crop": 32,
        "crops": 1,
        "architecture": "tf_efficientnet_lite0",
        "source_network": "EfficientNet-Lite0, random",
    }
    assert "uint8 [batch, 32, 32, 3], RGB" in meta.description
    assert "Resize images to 32 x 32" in meta.description
    assert set(meta.custom_metadata_map) == {"model"}


def test_a_recommended_network_is_exported_with_its_temperature_and_similarity(run, data, tmp_path):
    best = recommended(run, data, tmp_path / "runs/photographs/best", temperature=3.0, threshold=0.25)
    with contextlib.chdir(tmp_path):
        exporter.main([])
        model = session(Path("exported/model.onnx"))
    facts = json.loads(model.get_modelmeta().custom_metadata_map["model"])
    assert (facts["temperature"], facts["threshold"]) == (3.0, 0.25)
    assert "Divide them by `temperature`" in model.get_modelmeta().description
    rows = data.rows("test")
    found = model.run(["logits", "similarity"], {"pixels": data.test_view[rows]})
    logits, similarities = Classifier.open(best).outputs(torch.from_numpy(data.test_view[rows])[:, None])
    for ours, expected in zip(found, (logits, similarities), strict=True):
        assert np.abs(ours - expected.numpy()).max() < 1e-4


def test_the_files_contain_nothing_of_this_machine(exported):
    for file in exported.iterdir():
        content = file.read_bytes()
        assert not any(place in content for place in (str(ROOT).encode(), b"site-packages", b".py"))


def test_who_may_read_the_one_file_may_read_the_other(exported):
    modes = {(exported / f"model.{suffix}").stat().st_mode for suffix in ("onnx", "safetensors")}
    assert len(modes) == 1


def test_timm_alone_loads_the_safetensors(exported, run, data):
    file = exported / "model.safetensors"
    with safe_open(file, "pt") as opened:
        facts = json.loads(opened.metadata()["model"])
    model = timm.create_model(facts["architecture"], num_classes=len(facts["classes"])).eval()
    model.load_state_dict(load_file(file))
    crops, _ = next(data.test_batches("test", SPEC, 6, CPU))
    with torch.inference_mode():
        assert torch.allclose(model(crops), trained_network(run).eval()(crops), atol=1e-5)


@pytest.mark.slice
def test_two_exports_give_the_same_bytes(improved_run, tmp_path):
    one, again = (export(Classifier.open(improved_run), tmp_path / name) for name in ("one", "again"))
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in again]
    assert "ten crops" in session(one[0]).get_modelmeta().description


def test_both_files_are_written_or_neither(run, tmp_path, monkeypatch):
    def wrong(*_):
        raise UserError("the logits differ")

    monkeypatch.setattr(exporter, "_write_onnx", lambda *arguments: arguments[-1].write_text("newer"))
    (tmp_path / "model.onnx").write_text("older")
    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.setattr(exporter, "_check", wrong)
    with pytest.raises(UserError, match="the logits differ"):
        export(Classifier.open(run), tmp_path)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"model.onnx": "older", "notes.txt": "mine"}


def test_wrong_logits_are_detected(exported, run):
    classifier = Classifier.open(run)
    exporter._check(exported / "model.onnx", classifier)
    with torch.no_grad():
        classifier.network.head.bias[1] += 0.001
    with pytest.raises(UserError, match="logits differ from the network's by 0.001"):
        exporter._check(exported / "model.onnx", classifier)


def test_exporting_an_invalid_run_writes_nothing(tmp_path):
    with pytest.raises(SystemExit, match="^error: .*: not a run's folder"):
        exporter.main([str(tmp_path), "--out", str(tmp_path / "other")])
    assert not (tmp_path / "other").exists()


@pytest.mark.slice
@pytest.mark.parametrize(("name", "crop"), [("resnet50", 64), ("inception_v3", 96), ("timm:regnetx_002", 64)])
def test_other_networks_agree_too(name, crop, tmp_path):
    published = published_network(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = with_random_statistics(timm.create_model(published.architecture, num_classes=0))
    network = Network(describe(backbone, published, SourceNetwork(network=name), "random"), 4)
    network.backbone.load_state_dict(backbone.state_dict())
    classifier = Classifier(network, ("a", "b", "c", "d"), TestView(resize=crop, crop=crop, crops=1))
    onnx_file, _ = export(classifier, tmp_path)
    for count in (1, 5):
        pixels = torch.randint(256, (count, crop, crop, 3), dtype=torch.uint8)
        statistics = torch.tensor([published.mean, published.std]).view(2, 3, 1, 1)
        with torch.inference_mode():
            expected = network.eval()(normalised(pixels, statistics))
        (found,) = session(onnx_file).run(None, {"pixels": pixels.numpy()})
        assert np.abs(found - expected.numpy()).max() < 1e-4 * max(1, expected.abs().max())
