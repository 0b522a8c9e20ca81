"""DVC and a user's photographs: what it notices, experiments in other folders, and a project without git."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.clone import ROOT, Clone
from tests.helpers.small_slice import SMALL

SPLIT = "split@photographs-efficientnet_lite0"
RUN = {"check_params", "download@photographs", SPLIT}
SECTION = {"format": "folder", "train_per_class": 4, "test_per_class": 2, "seed": 0}


def photographs(folder: Path, images: int = 6) -> Path:
    for place, label in enumerate(("cat", "dog")):
        for number in range(images):
            write(folder / label / f"{number}.jpg", 100 * place + number)
    return folder


def write(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(256, size=(50, 60, 3), dtype=np.uint8)).save(file)


def use(clone: Clone, source: Path | str) -> None:
    clone.edit_params(**SMALL | {"datasets": {"photographs": SECTION | {"source": str(source)}}})


@pytest.fixture
def clone(tmp_path) -> Clone:
    return Clone.of_project(tmp_path / "clone")


def test_changes_behind_a_linked_source_are_noticed(clone, tmp_path):
    """A source may be a link, and hold links to photographs; links to folders in it are refused elsewhere."""
    store, one = photographs(tmp_path / "store"), tmp_path / "one.jpg"
    write(one, 7)
    (store / "cat/linked.jpg").symlink_to(one)
    (tmp_path / "photographs").symlink_to(store)
    use(clone, tmp_path / "photographs")
    assert clone.stages_run("repro", SPLIT) == RUN
    assert clone.stages_run("repro", SPLIT) == set()
    write(store / "dog/new.jpg", 8)
    assert clone.stages_run("repro", SPLIT) == RUN - {"check_params"}
    write(one, 9)
    assert clone.stages_run("repro", SPLIT) == RUN - {"check_params"}


def test_a_source_that_an_experiment_would_not_find_is_refused_at_once(clone, tmp_path):
    photographs(tmp_path / "photographs")
    photographs(clone.root / "mine")
    for source, absolute in (("../photographs", tmp_path / "photographs"), ("mine", clone.root / "mine")):
        use(clone, source)
        done = clone.call("dvc", "repro", SPLIT)
        assert done.returncode
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert "dvc exp run --queue" in line and f"write the absolute path, {absolute}" in line


def test_photographs_that_are_not_there_are_missed_at_once(clone, tmp_path):
    use(clone, tmp_path / "nowhere")
    done = clone.call("dvc", "repro", SPLIT)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert f"there is no folder or CSV file {tmp_path / 'nowhere'}: write where your photographs are" in line
    assert done.returncode


def test_an_experiment_in_another_folder_finds_the_photographs(clone, tmp_path):
    """By their absolute path, and those of the project that DVC keeps, as the message tells to."""
    photographs(clone.root / "mine")
    clone.run("dvc", "add", "-q", "mine")
    for source in (photographs(tmp_path / "photographs"), "mine"):
        use(clone, source)
        clone.commit()
        clone.run("dvc", "repro", SPLIT)
        clone.commit()
        done = clone.run("dvc", "exp", "run", "--temp", "-S", "datasets.photographs.seed=7", SPLIT)
        assert f"Running stage '{SPLIT}'" in done


def readme_commands(pattern: str) -> list[str]:
    """The one command line of README.md in backticks that contains this."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (line,) = {line for line in re.findall(r"`([^`]+)`", text) if pattern in line}
    return [command.strip() for command in line.split("&&")]


@pytest.mark.parametrize("pattern", ["git init", "core.no_scm"])
def test_a_zip_download_works_as_the_readme_says(clone, tmp_path, pattern):
    shutil.rmtree(clone.root / ".git")
    use(clone, photographs(tmp_path / "photographs"))
    assert "not a git repository" in clone.call("dvc", "repro", SPLIT).stderr
    for command in readme_commands(pattern):
        clone.run(*shlex.split(command))
    assert clone.stages_run("repro", SPLIT) == RUN
    if pattern == "git init":
        assert f"Running stage '{SPLIT}'" in clone.run("dvc", "exp", "run", "-S", "datasets.photographs.seed=7", SPLIT)
