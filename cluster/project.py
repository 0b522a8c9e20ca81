"""The DAG, what of it is out of date, and how a finished stage is recorded: all that this package knows of DVC.

It does what `dvc repro` does around a stage's command, with the same functions of the DVC that requirements.txt pins.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from dvc.env import DVC_ROOT, DVC_STAGE
from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.lock import LockError
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

UNCHANGED, RESTORED, VERIFIED = "unchanged", "restored from the run cache", "verified"


@dataclass(frozen=True)
class Command:
    """What is to be run for a stage.

    Attributes:
        folder: the working directory.
        commands: one after another, each with its arguments.
        removed: the outputs, to be removed before.
        environment: variables that DVC sets.
        computes: whether a GPU is of use to it.
    """

    folder: str
    commands: list[list[str]]
    removed: list[str]
    environment: dict[str, str]
    computes: bool


class Project:
    """A DVC project that is locked against all other DVC commands; see `opened`. Stages go by their names.

    Every method raises UserError where DVC has an objection.
    """

    def __init__(self, repo: Repo):
        self._repo = repo
        self._stages: dict[str, Stage] = {}
        self._lock_files: dict[str, LockFile] = {}
        self.scratch = Path(repo.tmp_dir) / "cluster"

    def plan(self, targets: Sequence[str]) -> dict[str, list[str]]:
        """The stages to look at for these targets (none: all of dvc.yaml), each with those that must be done before.

        They stand in the order in which `dvc repro` would run them.
        """
        with _in_one_line():
            stages = collect_stages(self._repo, targets or ["dvc.yaml"])
            graph = get_active_graph(self._repo.index.graph)
            planned = plan_repro(graph, stages)
            self._stages = {stage.addressing: stage for stage in planned}
            return {name: [other.addressing for other in graph.successors(s)] for name, s in self._stages.items()}

    @property
    def threads(self) -> int | None:
        """On how many threads a stage computes, where params.yaml says so; a wrong number is its own stage's matter."""
        values = yaml.safe_load((Path(self._repo.root_dir) / "params.yaml").read_text(encoding="utf-8"))
        threads = values.get("threads")
        return threads if isinstance(threads, int) and threads > 0 else None

    def prepare(self, name: str) -> Command | str:
        """What to run for a stage whose upstream stages are done; where nothing is to be run, why: UNCHANGED, ...

        The outputs of a stage that is to be run are removed.
        """
        stage = self._stages[name]
        with _in_one_line():
            if not stage.cmd or stage.frozen:  # a .dvc file, an import: DVC's own business
                if not stage.reproduce():
                    return UNCHANGED
                self._write_down(name, stage)
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
            removed=[out.fs_path for out in stage.outs if not out.persist and out.protocol == "local"],
            environment={DVC_ROOT: self._repo.root_dir, DVC_STAGE: name},
            computes=bool((stage.meta or {}).get("uses_gpu")),
        )

    def record(self, name: str) -> None:
        """Take the outputs of a stage that has just been run into the cache, and the stage into dvc.lock."""
        stage = self._stages[name]
        with _in_one_line():
            kept_in_git = any(not (out.use_cache or out.is_metric or out.is_plot) for out in stage.outs)
            stage.save(run_cache=not kept_in_git)
            stage.commit()
            self._write_down(name, stage)

    def _write_down(self, name: str, stage: Stage) -> None:
        if not isinstance(stage, PipelineStage):
            stage.dump(update_pipeline=False)
            return
        path = stage.dvcfile.path
        if path not in self._lock_files:
            of_this_file = [s.name for s in self._stages.values() if isinstance(s, PipelineStage) and s.path == path]
            self._lock_files[path] = LockFile(stage.dvcfile, of_this_file)
        self._lock_files[path].record(stage)


class LockFile:
    """A dvc.lock that is written again after every stage, in milliseconds whatever its size.

    DVC reads and formats all of it each time: a second for each hundred stages that depend on twenty files. Here the
    lines of every other stage are kept as they are; the file is the same, byte for byte, as a serial `dvc repro`'s.
    """

    def __init__(self, dvcfile, order: list[str]):
        self._file = dvcfile._lockfile
        data = self._file.load() or {"schema": "2.0"}
        self._stages = {name: self._lines(name, entry) for name, entry in data.get("stages", {}).items()}
        self._parts = {key: dumps_yaml({key: value}) for key, value in (data | {"stages": None}).items()}
        # Stages that are new to the file follow those that are not, in the order of a serial run.
        order = [name for name in order if name not in self._stages]
        self._position = {name: number for number, name in enumerate([*self._stages, *order])}

    @staticmethod
    def _lines(name: str, entry: dict) -> str:
        return dumps_yaml({"stages": {name: entry}}).removeprefix("stages:\n")

    def record(self, stage: PipelineStage) -> None:
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
def opened(folder: Path) -> Iterator[Project]:
    """The DVC project around `folder`, locked until the block ends.

    `dvc repro` unlocks the project while a command runs; here, where one always does, it stays locked throughout.

    Raises:
        UserError: there is none, or another DVC command works in it.
    """
    logging.getLogger("dvc").setLevel(logging.WARNING)  # what DVC says of each stage, this package says
    with ExitStack() as stack:
        try:
            repo = stack.enter_context(Repo(str(folder)))
            stack.enter_context(lock_repo(repo))
            stack.enter_context(repo.scm_context())
            # Whose command runs under `dvc repro` has its files locked instead.
            hardlink = repo.config["core"].get("hardlink_lock", False)
            with rwlock(repo.tmp_dir, repo.fs, " ".join(sys.argv), [], [repo.root_dir], hardlink):
                pass
        except NotDvcRepoError:
            raise UserError(f"{folder} is not in a DVC project: call this in a clone of the project") from None
        except LockError as error:
            holder = str(error).partition("blocked by:")[2].split("\n\n")[0]
            which = f" ({' '.join(holder.split())})" if holder else ""
            raise UserError(
                f"another DVC command, or another cluster repro, works in {os.path.relpath(repo.root_dir)}{which}: "
                "wait until it has ended"
            ) from None
        yield Project(repo)


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except DvcException as error:
        raise UserError(" ".join(str(error).split())) from error
