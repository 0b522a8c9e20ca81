"""A temporary clone of this project, in which tests run DVC."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


class Clone:
    """A git repository with the current files of this project, an empty DVC cache and no outputs of earlier runs."""

    def __init__(self, root: Path):
        self.root = root
        # The tests must not depend on the environment, such as the user's git identity or a shared DVC cache.
        self.env = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_SITE_CACHE_DIR": str(root.parent / "site-cache"),
            **{f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }

    @classmethod
    def of_project(cls, root: Path) -> Clone:
        """Copy all tracked and untracked files that git does not ignore to the new folder `root`, and commit them."""
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
        )
        for name in listed.stdout.decode().splitlines():
            if (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, root / name)
        clone = cls(root)
        clone.run("git", "init", "-q", "-b", "main")
        clone.commit()
        return clone

    def call(self, *command: str) -> subprocess.CompletedProcess:
        """Run a command in the clone and capture its output; any exit code is allowed."""
        return subprocess.run(command, cwd=self.root, env=self.env, capture_output=True, text=True)

    def run(self, *command: str) -> str:
        """Run a command that must succeed, and return its standard output."""
        done = self.call(*command)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def stages_run(self, *command: str) -> set[str]:
        """Run a DVC command that must succeed, and return the names of the stages that it ran."""
        return set(re.findall(r"Running stage '(.+)'", self.run("dvc", *command)))

    def stale(self) -> set[str]:
        """The stages that `dvc status` calls out of date."""
        return set(json.loads(self.run("dvc", "status", "--json").splitlines()[-1]))

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", "state")

    def restore(self) -> None:
        """Restore the workspace and DVC's outputs to the last commit."""
        self.run("git", "reset", "-q", "--hard")
        self.run("git", "clean", "-fdq")
        self.run("dvc", "checkout", "-q")

    def edit_params(self, **changes) -> None:
        """Replace top-level sections of params.yaml."""
        path = self.root / "params.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes, sort_keys=False))

    def read(self, name: str) -> str:
        return (self.root / name).read_text(encoding="utf-8")
