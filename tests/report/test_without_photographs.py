"""`report.photographs: false`: no file of the report depends on a pixel of a photograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from delta.analysis.recommendation import Candidate
from tests.helpers.report_project import report, write_best, write_project

DELTA = Candidate(backbone="resnet101", method="delta", label="DELTA", alpha=0.01, folds=5, top1=80.0, macro=80.0)


def reported(root: Path, photographs: bool, seed: int) -> dict[str, bytes]:
    """The report's files by name, of a project in which every pixel of every photograph is drawn from this seed."""
    values = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    values["report"] = {"photographs": photographs}
    (root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    random = np.random.default_rng(seed)
    for file in [*root.glob("data/packed/*/*/test_view.npy"), *root.glob("runs/*/*/activation_maps/pixels.npy")]:
        np.save(file, random.integers(0, 256, np.load(file).shape, dtype=np.uint8))
    for file in root.glob("runs/*/*/dissection/*/*/*.jpg"):
        Image.fromarray(random.integers(0, 256, (112, 448, 3), dtype=np.uint8)).save(file)
    out = report(root)
    return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    root = write_project(tmp_path_factory.mktemp("photographs") / "project", ["ants"], recommended=["ants"])
    write_best(root, "ants", [DELTA])
    return root


def test_no_file_depends_on_a_photograph(project):
    files, others = (reported(project, False, seed) for seed in (1, 2))
    assert files == others
    assert not [
        name for name in files if Path(name).suffix not in {".html", ".csv", ".md", ".tex", ".json", ".svg", ".png"}
    ]
    assert not [name for name, content in files.items() if b"image/jpeg" in content]
    assert {"figures/figure1-ants-resnet101.png", "figures/figure6-ants-resnet101.png"} <= files.keys()
    page = files["index.html"].decode()
    assert "This report has no photographs (report.photographs: false)" in page
    assert "Figure 1: what the networks look at" in page
    assert all(f'<section id="{anchor}">' in page for anchor in ("recommendation", "mistakes", "gallery"))
    assert '<section id="photographs">' not in page
    assert 'class="photographs"' not in page
    assert "<h4>Concepts</h4>" not in page


def test_by_default_figures_and_galleries_show_them(project):
    files, others = (reported(project, True, seed) for seed in (1, 2))
    changed = {name.rpartition("-")[0] for name in files if files[name] != others[name]}
    assert changed >= {"figures/figure1-ants", "figures/figure6-ants", "figures/classes/ants-resnet101"}
    assert changed >= {
        "figures/photographs/ants-resnet101",
        "figures/highest_losses/ants",
        "figures/units/ants-resnet101-delta",
    }
    assert "has no photographs" not in files["index.html"].decode()
