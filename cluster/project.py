"""The interface to DVC: the DAG, what is out of date, and recording finished stages.

It does what `dvc repro` does before and after a stage's command, with the same functions of DVC. Some of them are
private, so it needs the version of DVC in requirements.txt.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.dvcfile import ProjectFile
from dvc.env import DVC_ROOT, DVC_STAGE
from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.lock import LockError
from dvc.parsing import ResolveError
from dvc.parsing.context import ContextError
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.rwlock import rwlock
from dvc.stage import PipelineStage, Stage
from dvc.stage.cache import RunCacheNotFoundError
from dvc.stage.run import _enforce_cmd_list, _make_cmd, get_executable
from dvc.stage.serialize import to_single_stage_lockfile
from dvc.utils.serialize import dumps_yaml

from delta.io.errors import UserError
from delta.io.files import atomic_file
from delta.io.yaml import load_yaml

UNCHANGED, RESTORED, VERIFIED = "unchanged", "restored from the run cache", "verified"


@dataclass(frozen=True)
class Command:
    """The command of a stage.

    Attributes:
        folder: the working directory.
        commands: the commands to run one after another, each as a list of arguments.
        outputs: the files and folders to remove beforehand.
        environment: the environment variables that DVC sets.
        uses_gpu: whether the stage uses a GPU, from its `meta` in dvc.yaml.
    """

    folder: str
    commands: list[list[str]]
    outputs: list[str]
    environment: dict[str, str]
    uses_gpu: bool


class Project:
    """A DVC project, locked against other DVC commands (see `open_project`). Stages are identified by their names.

    Every method raises UserError if DVC raises an error.

    Attributes:
        scratch: a folder for temporary files, in DVC's own.
    """

    def __init__(self, repo: Repo):
        self._repo = repo
        self._stages: dict[str, Stage] = {}
        self._lock_files: dict[str, LockFile] = {}
        self.scratch = Path(repo.tmp_dir) / "cluster"

    def plan(self, targets: Sequence[str], glob: bool = False) -> dict[str, list[str]]:
        """The stages to bring up to date for some targets, by name, with the names of the stages they depend on.

        They are in the order in which `dvc repro` would run them.

        Args:
            targets: as for `dvc repro`; none for all of dvc.yaml.
            glob: whether the targets are patterns of names.
        """
        with _dvc_errors():
            with _template_errors():
                stages = collect_stages(self._repo, targets or ["dvc.yaml"], glob=glob)
                graph = get_active_graph(self._repo.index.graph)
            if targets and not stages:  # for which DVC would plan all stages
                raise UserError(f"no stage is called {' or '.join(targets)}: `dvc stage list` has their names")
            planned = plan_repro(graph, stages)
            self._stages = {stage.addressing: stage for stage in planned}
            return {name: [other.addressing for other in graph.successors(s)] for name, s in self._stages.items()}

    @property
    def threads(self) -> int | None:
        """The parameter `threads` of params.yaml; None if it is null or invalid, which the stages report."""
        threads = load_yaml(Path(self._repo.root_dir) / "params.yaml").get("threads")
        return threads if isinstance(threads, int) and threads > 0 else None

    def prepare(self, name: str) -> Command | str:
        """The command to run for a stage whose upstream stages are done.

        The outputs of a stage that is to run are removed.

        Returns:
            The command, or UNCHANGED, RESTORED or VERIFIED if the stage need not run.
        """
        stage = self._stages[name]
        with _dvc_errors():
            if not stage.cmd or stage.frozen:  # a .dvc file or an import, which DVC handles itself
                if not stage.reproduce():
                    return UNCHANGED
                self._write_lock_file(name, stage)
                return VERIFIED
            if not stage.changed():
                return UNCHANGED
            stage.remove_outs(ignore_remove=False, force=False)
            try:
                self._repo.stage_cache.restore(stage)
            except RunCacheNotFoundError:
                stage.save_deps()
            else:
                self.record(name)
                return RESTORED
        return Command(
            folder=str(stage.wdir),
            commands=[_make_cmd(get_executable(), line) for line in _enforce_cmd_list(stage.cmd)],
            outputs=[out.fs_path for out in stage.outs if not out.persist and out.protocol == "local"],
            environment={DVC_ROOT: self._repo.root_dir, DVC_STAGE: name},
            uses_gpu=bool((stage.meta or {}).get("uses_gpu")),
        )

    def record(self, name: str) -> None:
        """Save the outputs of a stage that has just run to the cache, and the stage to dvc.lock."""
        stage = self._stages[name]
        with _dvc_errors():
            kept_in_git = any(not (out.use_cache or out.is_metric or out.is_plot) for out in stage.outs)
            stage.save(run_cache=not kept_in_git)
            stage.commit()
            self._write_lock_file(name, stage)

    def _write_lock_file(self, name: str, stage: Stage) -> None:
        if not isinstance(stage, PipelineStage):
            stage.dump(update_pipeline=False)
            return
        path = stage.dvcfile.path
        if path not in self._lock_files:
            names = [s.name for s in self._stages.values() if isinstance(s, PipelineStage) and s.path == path]
            self._lock_files[path] = LockFile(stage.dvcfile, names)
        self._lock_files[path].record(stage)


class LockFile:
    """A dvc.lock that is rewritten after every stage within milliseconds, whatever its size.

    DVC parses and formats the whole file each time, which takes a second per hundred stages with twenty dependencies
    each. This class keeps the text of all other stages. The file is byte-identical to that of a serial `dvc repro`.
    """

    def __init__(self, dvcfile: ProjectFile, order: list[str]):
        """Read the lock file of `dvcfile`, whose stages would run serially in the given order."""
        self._file = dvcfile._lockfile
        data = self._file.load() or {"schema": "2.0"}
        self._stages = {name: self._lines(name, entry) for name, entry in data.get("stages", {}).items()}
        self._parts = {key: dumps_yaml({key: value}) for key, value in (data | {"stages": None}).items()}
        # New stages follow the existing ones, in the order of a serial run.
        order = [name for name in order if name not in self._stages]
        self._position = {name: number for number, name in enumerate([*self._stages, *order])}

    @staticmethod
    def _lines(name: str, entry: dict[str, Any]) -> str:
        """A stage's text in the file."""
        return dumps_yaml({"stages": {name: entry}}).removeprefix("stages:\n")

    def record(self, stage: PipelineStage) -> None:
        """Write a stage to the file."""
        lines = self._lines(stage.name, to_single_stage_lockfile(stage))
        if self._stages.get(stage.name) == lines:
            return
        self._stages[stage.name] = lines
        stages = [self._stages[name] for name in sorted(self._stages, key=self._position.__getitem__)]
        with atomic_file(Path(self._file.path)) as scratch:
            parts = self._parts | {"stages": "".join(["stages:\n", *stages])}
            scratch.write_text("".join(parts.values()), encoding="utf-8")
        self._file.repo.scm_context.track_file(self._file.relpath)


@contextmanager
def open_project(folder: Path) -> Iterator[Project]:
    """Open the DVC project around `folder`, and lock it until the end of the block.

    `dvc repro` unlocks the project while a command runs. Here it stays locked, as some command is always running.

    Raises:
        UserError: there is no project, or another DVC command is running in it.
    """
    logging.getLogger("dvc").setLevel(logging.WARNING)  # this package reports on stages itself
    with ExitStack() as stack:
        try:
            repo = stack.enter_context(Repo(str(folder)))
            stack.enter_context(lock_repo(repo))
            stack.enter_context(repo.scm_context())
            # While `dvc repro` runs a command, it locks only the command's files: check that nothing is locked.
            hardlink = repo.config["core"].get("hardlink_lock", False)
            with rwlock(repo.tmp_dir, repo.fs, " ".join(sys.argv), [], [repo.root_dir], hardlink):
                pass
        except NotDvcRepoError:
            raise UserError(f"{folder} is not in a DVC project: run this command in a clone of the project") from None
        except LockError as error:
            holder = str(error).partition("blocked by:")[2].split("\n\n")[0]
            which = f" ({holder.strip()})" if holder else ""
            raise UserError(
                f"another DVC command or cluster repro is running in {os.path.relpath(repo.root_dir)}{which}: "
                "wait until it has finished"
            ) from None
        yield Project(repo)


@contextmanager
def _dvc_errors() -> Iterator[None]:
    """Turn DVC's errors into a UserError."""
    try:
        yield
    except DvcException as error:
        raise UserError(str(error)) from error


@contextmanager
def _template_errors() -> Iterator[None]:
    """Turn what DVC raises where dvc.yaml does not fit params.yaml into a UserError."""
    try:
        yield
    except (ResolveError, ContextError, AttributeError, TypeError) as error:
        raise UserError(
            f"params.yaml or dvc.yaml cannot be resolved ({error}): run `python -m stages.check_params`, which names "
            "the wrong parameter"
        ) from error
