"""Keep what a study's report is made from, a file for each data set and backbone: python -m studies.results --help.

So a study of many hours can be made in parts, on machines that come and go, and its statistics be checked or extended
without training. A file holds the runs' results, learning curves and predictions, the analyses' tables, the grid
search, the list of images and the times: no network and no image.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from delta.io.archives import unpack
from delta.io.errors import UserError, exit_on_user_error
from delta.io.files import atomic_file
from stages.common.paths import CROSS_VALIDATION, DATA, RUNS, WALL_TIMES

FOLDER, ENDING = "results", ".tar.gz"  # of a published study
TEXTS = {".csv", ".json", ".tsv"}
PLACES = (RUNS, CROSS_VALIDATION, DATA / "packed")  # of <data set>/<backbone>


def keep(clone: Path, part: str, out: Path) -> Path:
    """Write the results of a part into a file in the folder `out`. The same results make the same bytes.

    Args:
        clone: of the study, where the part has been computed or restored.
        part: `<data set>-<backbone>`.

    Raises:
        UserError: it has no results.
    """
    if not (run := parts(clone).get(part)):
        raise UserError(f"{clone / RUNS}: no results of {part}: make them with `make study-part PART={part}`")
    archive = out / f"{part}{ENDING}"
    with (
        atomic_file(archive) as scratch,
        scratch.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for file in sorted(_files(clone, *run.relative_to(clone / RUNS).parts)):
            tar.add(file, file.relative_to(clone), filter=_without_owner)
    return archive


def restore(results: Path, clone: Path) -> list[str]:
    """Unpack what has been kept of the parts of which the clone has no results.

    Returns:
        The parts that were unpacked.

    Raises:
        UserError: a file is damaged; nothing of it is unpacked.
    """
    there, restored = parts(clone), []
    for archive in sorted(results.glob(f"*{ENDING}")):
        if (part := archive.name.removesuffix(ENDING)) not in there:
            with TemporaryDirectory() as scratch:  # a damaged file's part would else count as computed from now on
                unpack(archive, Path(scratch))
                shutil.copytree(scratch, clone, dirs_exist_ok=True)
            restored.append(part)
    return restored


def parts(clone: Path) -> dict[str, Path]:
    """The parts of which a clone has results, `<data set>-<backbone>`, with the folders of their runs."""
    runs = {file.parents[2] for file in (clone / RUNS).glob("*/*/*/*/result.json")}
    return {f"{run.parent.name}-{run.name}": run for run in sorted(runs)}


def _files(clone: Path, dataset: str, backbone: str) -> Iterator[Path]:
    for place in PLACES:
        yield from (file for file in (clone / place / dataset / backbone).rglob("*") if file.suffix in TEXTS)
    for file in (clone / WALL_TIMES).glob("*.json"):
        of = json.loads(file.read_text(encoding="utf-8"))
        if of.get("dataset") == dataset and of.get("backbone", backbone) == backbone:
            yield file


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (("keep", "write a file into the folder"), ("restore", "unpack the folder's files")):
        command = commands.add_parser(name, help=about)
        command.add_argument("clone", type=Path, help="the study's clone, build/<name>")
        command.add_argument("folder", type=Path, help=f"studies/<name>/{FOLDER}")
    commands.choices["keep"].add_argument("part", help="<data set>-<backbone>")
    options = parser.parse_args()
    with exit_on_user_error():
        if options.command == "keep":
            print(keep(options.clone, options.part, options.folder))
        else:
            print("restored:", ", ".join(restore(options.folder, options.clone)) or "nothing")


if __name__ == "__main__":
    main()
