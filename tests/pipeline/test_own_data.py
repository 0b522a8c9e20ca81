"""docs/your-own-data.md: write and run everything that it tells a reader to write and run."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from delta import export
from delta.predict import command
from tests.helpers.clone import ROOT, Clone
from tests.helpers.guides import blocks, commands, merged
from tests.helpers.small_slice import SMALL

GUIDE = ROOT / "docs/your-own-data.md"
PROFILE = yaml.safe_load((ROOT / "profiles/folder.yaml").read_text(encoding="utf-8"))


def test_every_block_has_a_known_kind():
    assert {(block.language, block.file) for block in blocks(GUIDE)} == {
        ("", ""),  # output of a command, or a list of files
        ("sh", ""),
        ("yaml", "params.yaml"),
        ("python", ""),
    }


@pytest.mark.parametrize("words", commands(GUIDE), ids=" ".join)
def test_every_command_exists(words):
    """This checks options, parameters and files; the test of the whole guide runs the commands."""
    match words:
        case ["python", "-m", "delta.predict", *arguments]:
            command.parser().parse_args(arguments)
        case ["python", "-m", "delta.export", *arguments]:
            export.parser().parse_args(arguments)
        case ["dvc", "exp", "run", *options]:
            for name in (option.partition("=")[0] for option in options if "=" in option):
                section, _, key = name.partition(".")
                assert key in PROFILE[section]
        case ["cp", source, "params.yaml"]:
            assert (ROOT / source).is_file()
        case _:
            assert words[0] in ("export", "git") or words in (["dvc", "repro"], ["dvc", "metrics", "diff"])


def reduced(values: dict) -> dict:
    """Reduce the parameters so that each stage takes seconds."""
    small = {name: SMALL[name] for name in ("backbones", "seeds", "training")}
    small["datasets"] = {"photographs": {"train_per_class": 3, "test_per_class": 2}}
    small["recommend"] = {"methods": ["probe", "l2"], "folds": 2, "epochs": 1}
    small["methods"] = ["l2", "delta"]
    return merged(values, small)


@pytest.mark.slice
def test_the_whole_guide(tmp_path):
    """Apply its blocks in order, as a reader does, with reduced parameters."""
    clone = Clone.of_project(tmp_path / "clone")
    noise = np.random.default_rng(0)
    for place, label in enumerate(("cat", "dog")):
        for folder, count in ((f"photographs/{label}", 5), ("new", 1)):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                pixels = noise.integers(120 * place, 120 * place + 90, (50, 60, 3), dtype=np.uint8)
                name = f"{number + 1}.jpg" if count > 1 else f"{label}.jpg"
                Image.fromarray(pixels).save(tmp_path / folder / name)
    params, printed = clone.root / "params.yaml", []
    for block in blocks(GUIDE):
        if block.language == "yaml":
            text = block.text.replace("/home/me/photographs", str(tmp_path / "photographs"))
            values = merged(yaml.safe_load(params.read_text()), yaml.safe_load(text))
            params.write_text(yaml.safe_dump(reduced(values), sort_keys=False))
        elif block.language:
            shell = ["bash", "-euc"] if block.language == "sh" else ["python", "-c"]
            printed.append((block.text, clone.run(*shell, block.text)))
    (predicted,) = (json.loads(out) for text, out in printed if "--json" in text)
    assert [entry["image"] for entry in predicted] == ["../new/cat.jpg", "../new/dog.jpg"]
    best = {entry["image"]: entry["predictions"][0]["class"] for entry in predicted}
    (library,) = (out for text, out in printed if "Classifier.open" in text)
    assert library.splitlines() == [f"{image} {name}" for image, name in best.items()]
    (onnx,) = (out for text, out in printed if "onnxruntime" in text)
    assert onnx.split()[0] == best["../new/cat.jpg"]
    (probability,) = (entry["predictions"][0]["probability"] for entry in predicted if "cat" in entry["image"])
    assert abs(float(onnx.split()[1]) - probability) < 0.02  # printed with two digits
    (experiment,) = (out for text, out in printed if "metrics diff" in text)
    changed = [line.split()[1] for line in experiment.splitlines() if line.startswith("reports/metrics")]
    assert all(".delta." in metric for metric in changed)  # against the commit, not against the embedded slice
    assert "| Probe | L2-FE | L2 | DELTA |" in clone.read("reports/tables/table1.md")
    assert json.loads(clone.read("runs/photographs/efficientnet_lite0/delta/0/result.json"))["alpha"] == 0.1
