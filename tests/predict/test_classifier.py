"""The classifier of a finished run: it processes images like the run's test images; invalid runs are errors."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from delta.data.images import decode
from delta.data.packed.views import DefaultViewData, ImprovedViewData
from delta.data.packing import write_packed, write_packed_whole
from delta.io.errors import UserError
from delta.networks.network import save_weights, trained_network
from delta.predict.classifier import Classifier, find_files, preprocess
from delta.training.result import TestView
from tests.helpers.tiny import CPU, SPEC


@pytest.mark.parametrize("name", ["run", "improved_run"])
@pytest.mark.parametrize("batch_size", [1, 30, 64])
def test_files_are_classified_as_in_the_evaluation(name, batch_size, request, data, whole, photographs):
    run, packed = request.getfixturevalue(name), {"run": data, "improved_run": whole}[name]
    network, expected = trained_network(run).eval(), []
    with torch.inference_mode():
        for crops, targets in packed.test_batches("test", SPEC, 64, CPU):
            expected.append(network(crops).view(len(targets), packed.crops, 3).mean(1))
    paths = [photographs / path for path in packed.index["path"][packed.rows("test")]]
    seen = list(Classifier.open(run).classify(paths, batch_size))
    assert [image.path for image in seen] == paths
    found = np.stack([image.probabilities for image in seen])
    assert np.allclose(found, torch.cat(expected).softmax(1).numpy(), atol=1e-6)
    top1 = 100 * np.mean(found.argmax(1) == packed.targets("test").numpy())
    assert top1 == pytest.approx(json.loads((run / "result.json").read_text())["top1"])


def test_the_views_differ(run, improved_run, photographs):
    """Otherwise the test above could not detect the wrong view."""
    image = decode(photographs / "ant/0.png")
    default, improved = (Classifier.open(each) for each in (run, improved_run))
    assert default.view == TestView(resize=40, crop=32, crops=1)
    assert improved.view == TestView(resize=40, crop=32, crops=10)
    assert default.classes == improved.classes == ("ant", "bee", "cow")
    crops = preprocess(improved.view, image)
    assert crops.shape == (10, 32, 32, 3)
    assert not any(torch.equal(preprocess(default.view, image)[0], crop) for crop in crops)


@pytest.fixture
def odd_images(tmp_path) -> Path:
    """Images of every kind that is easily decoded wrongly; none of them is square."""
    folder, noise = tmp_path / "odd", np.random.default_rng(0)
    folder.mkdir()
    picture = Image.fromarray(noise.integers(256, size=(50, 70, 3), dtype=np.uint8))
    picture.convert("L").save(folder / "grey.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.quantize(16).save(folder / "palette.png", transparency=3)
    picture.convert("RGBA").save(folder / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    picture.save(folder / "turned.jpg", exif=exif)
    (folder / "turned.jpg").rename(folder / "wrongly_named.png")
    return folder


def test_unusual_images_are_decoded_as_for_packing(odd_images, tmp_path):
    index = pd.DataFrame({"path": sorted(path.name for path in odd_images.iterdir())})
    index = index.assign(label="a", target=0, split="test")
    for kind in ("packed", "whole"):
        (tmp_path / kind).mkdir()
    write_packed(odd_images, index, 40, 32, tmp_path / "packed")
    write_packed_whole(odd_images, index, 40, tmp_path / "whole")
    for packed in (DefaultViewData.open(tmp_path / "packed"), ImprovedViewData.open(tmp_path / "whole", 32)):
        view = TestView(resize=40, crop=32, crops=packed.crops)
        batches = packed.test_batches("test", SPEC, packed.crops, CPU)
        for path, (crops, _) in zip(index["path"], batches, strict=True):
            seen = preprocess(view, decode(odd_images / path)).permute(0, 3, 1, 2)
            assert torch.equal((crops * 127.5 + 127.5).round().byte(), seen), path


def test_unreadable_files_are_reported_and_skipped(run, photographs, tmp_path):
    cut, text, good = tmp_path / "cut.png", tmp_path / "text.jpg", photographs / "bee/3.png"
    cut.write_bytes(good.read_bytes()[:2000])
    text.write_text("no image")
    paths = [cut, good, text, tmp_path / "gone.jpg", photographs / "ant/1.png"]
    seen = list(Classifier.open(run).classify(paths, batch_size=1))
    assert [image.path for image in seen] == paths
    assert [image.probabilities is None for image in seen] == [True, False, True, True, False]
    assert [image.problem for image in seen[1:]] == [None, "not an image", "No such file or directory", None]
    assert "truncated" in seen[0].problem


def test_a_folder_is_searched_in_order(tmp_path):
    names = ["b/2.jpg", "b/10.JPG", "a.png", "b/c/1.webp", "z.tif"]
    left_out = [".hidden.jpg", ".cache/1.jpg", "notes.txt", "b/1.jpg.xmp", "paper.pdf"]
    for name in names + left_out:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    expected = ["a.png", "b/10.JPG", "b/2.jpg", "b/c/1.webp", "z.tif"]
    assert find_files([tmp_path]).images == [tmp_path / name for name in expected]
    named = [tmp_path / "z.tif", tmp_path / "notes.txt", tmp_path / "gone.jpg"]
    assert find_files([*named, tmp_path / "b/c"]).images == [*named, tmp_path / "b/c/1.webp"]
    with pytest.raises(UserError, match="folder.jpg: a folder without image files"):
        find_files([tmp_path / "folder.jpg"])


@pytest.fixture
def copy(run, tmp_path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def edit(run: Path, **changes) -> None:
    file = run / "result.json"
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: shutil.rmtree(run), "copy: not a run's folder, such as runs/"),
        (lambda run: edit(run, view=None), r"result.json: has no `view`, an older version wrote it"),
        (lambda run: (run / "result.json").write_text("{"), "result.json: no result of a run"),
        (lambda run: edit(run, classes=["ant", "bee"]), "copy: 2 class names for a network of 3 classes"),
        (lambda run: (run / "weights.safetensors").unlink(), "copy: no trained network"),
        (lambda run: (run / "weights.safetensors").write_text("no"), "copy: no trained network"),
    ],
)
def test_a_damaged_run_is_one_error_line(copy, damage, message):
    damage(copy)
    with pytest.raises(UserError, match=message) as error:
        Classifier.open(copy)
    assert "\n" not in str(error.value)


class Malicious:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("save", [pickle.dump, torch.save], ids=["pickle", "torch"])
def test_a_pickle_is_not_executed(save, copy, tmp_path):
    with (copy / "weights.safetensors").open("wb") as file:
        save({"head.bias": Malicious(tmp_path / "owned")}, file)
    with pytest.raises(UserError, match="no trained network"):
        Classifier.open(copy)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("architecture", ["hf-hub:someone/something", "local-dir:/etc", "nonesuch"])
def test_a_network_name_downloads_nothing(architecture, copy, monkeypatch):
    """timm loads a configuration from such names."""
    monkeypatch.setattr("timm.create_model", lambda *_, **__: pytest.fail("timm was asked for it"))
    state = load_file(copy / "weights.safetensors")
    spec = json.dumps(json.loads(SPEC.to_json()) | {"architecture": architecture})
    save_file(state, copy / "weights.safetensors", {"backbone": spec})
    with pytest.raises(UserError, match="no trained network .*is not an architecture of timm's"):
        Classifier.open(copy)


def test_a_source_network_is_not_a_run(weights, copy):
    save_weights(SPEC, load_file(weights), copy / "weights.safetensors")
    with pytest.raises(UserError, match="no trained network"):
        Classifier.open(copy)
