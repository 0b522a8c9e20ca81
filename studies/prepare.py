"""Prepare a study: python -m studies.prepare NAME DATA makes build/NAME, a clone of this commit with the profile NAME.

A clone that is there already is brought to this commit and keeps all that it has computed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

import yaml

from delta.io.errors import UserError, exit_on_user_error
from delta.io.files import atomic_file
from delta.sources.catalogue import NETWORKS, Package

BUILD = Path("build")
PLACE = "/data"  # of the data sets, in a profile


def prepare(project: Path, name: str, data: Path | None) -> Path:
    """Clone the project's commit and make the profile its params.yaml.

    Args:
        project: the root of a git repository without uncommitted changes.
        name: of a profile.
        data: the folder of the data sets, in the place of PLACE; None for the report of what has been computed.

    Returns:
        The clone.

    Raises:
        UserError: there is no such profile or folder, there are uncommitted changes, or a package with weights that the
            profile needs is not installed.
    """
    clone, profile = project.resolve() / BUILD / name, Path("profiles") / f"{name}.yaml"
    if not (project / profile).is_file():
        raise UserError(f"{profile}: no such profile")
    if data and not data.is_dir():
        raise UserError(f"{data}: no such folder: say where the data sets lie, DATA=<folder>")
    if _git(project, "status", "--porcelain", "--untracked-files=no"):
        raise UserError("a study is made from a commit, and there are changes that are not: commit them first")
    if data:
        _check_weights(project / profile)
    commit = _git(project, "rev-parse", "HEAD")
    if clone.exists():
        done = (clone / "dvc.lock").read_bytes()  # what has been computed
        _git(clone, "fetch", "--quiet", "origin", "HEAD")
        _git(clone, "reset", "--quiet", "--hard", commit)
        (clone / "dvc.lock").write_bytes(done)
    else:
        clone.parent.mkdir(exist_ok=True)
        _git(project, "clone", "--quiet", ".", str(clone))
    shutil.rmtree(clone / "reports", ignore_errors=True)  # the committed one, which is the embedded slice's
    text = (clone / profile).read_text(encoding="utf-8")
    with atomic_file(clone / "params.yaml") as scratch:
        place = data.resolve() if data else PLACE
        scratch.write_text(text.replace(f"source: {PLACE}/", f"source: {place}/"), encoding="utf-8")
    return clone


def _check_weights(profile: Path) -> None:
    """Find out now, not hours later, that the weights of one of several networks are missing.

    Raises:
        UserError: a package with weights is not installed.
    """
    backbones = yaml.safe_load(profile.read_text(encoding="utf-8")).get("backbones", {})
    for name, backbone in backbones.items():
        network = NETWORKS.get(backbone["network"])
        if network and isinstance(network.weights, Package):
            try:
                network.weights.files()
            except UserError as error:
                raise UserError(f"{profile}: backbones.{name}: {error}") from None


def _git(folder: Path, *arguments: str) -> str:
    """The output of a git command.

    Raises:
        UserError: it failed.
    """
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"git {arguments[0]}: {done.stderr}")
    return done.stdout.strip()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="of the profile")
    parser.add_argument("data", type=Path, nargs="?", help="the folder of the unpacked data sets, to compute anything")
    options = parser.parse_args()
    with exit_on_user_error():
        print(prepare(Path.cwd(), options.name, options.data))


if __name__ == "__main__":
    main()
