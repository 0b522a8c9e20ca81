"""Publish a study: python -m studies.publish CLONE OUT copies its parameters, report and results."""

from __future__ import annotations

import argparse
import re
from importlib import metadata
from pathlib import Path

from delta.io.errors import UserError, abbreviate, exit_on_user_error
from delta.io.files import atomic_folder
from delta.report.description import commit, machine, read_wall_times
from delta.report.statistics import format_duration
from stages.common.command import option_values
from stages.common.params import load_params
from stages.common.paths import PARAMS, REPORTS, WALL_TIMES
from studies.prepare import PLACE
from studies.results import FOLDER, keep, parts

TEXTS = {".html", ".csv", ".md", ".tex", ".json", ".svg"}
MAPS = re.compile(r"figures/(figure[16]-|classes/)[^/]*\.png")  # activation maps, which are drawn without photographs


def publish(clone: Path, out: Path) -> None:
    """Copy a finished study into the folder `out`, named as its profile, and replace what is there.

    Args:
        clone: what `studies.prepare` made, after `python -m cluster repro`.

    Raises:
        UserError: the study is not finished, its parameters are not the profile's, or the report has a photograph.
    """
    (parameters, data), reports = _parameters(clone, out.name), clone / REPORTS
    if load_params(clone / PARAMS).report.photographs:
        raise UserError(f"profiles/{out.name}.yaml: report.photographs: a study is published without them: write false")
    files = sorted(file for file in reports.rglob("*") if file.is_file() and not _is_drawn_twice(file))
    if not (reports / "index.html").is_file():
        raise UserError(f"{reports}: no report: run `python -m cluster repro --address local` in {clone}")
    if pictures := [str(file.relative_to(reports)) for file in files if _may_be_a_photograph(file, reports)]:
        raise UserError(f"{reports}: may be photographs, which are not published: {abbreviate(pictures)}")
    with atomic_folder(out) as scratch:
        (scratch / PARAMS).write_text(parameters, encoding="utf-8")
        for file in files:
            copy = scratch / file.relative_to(reports)
            copy.parent.mkdir(parents=True, exist_ok=True)
            content = file.read_bytes()
            if file.suffix in TEXTS:
                content = content.replace(f"{data}/".encode(), f"{PLACE}/".encode())
            copy.write_bytes(content)
        for part in parts(clone):
            keep(clone, part, scratch / FOLDER)
        (scratch / "README.md").write_text(_readme(clone, out.name, parameters), encoding="utf-8")


def _parameters(clone: Path, name: str) -> tuple[str, str]:
    """The profile's text, and the folder that stands for PLACE in the clone's params.yaml, which is the same otherwise.

    Raises:
        UserError: something else differs.
    """
    try:
        profile = (clone / "profiles" / f"{name}.yaml").read_text(encoding="utf-8")
        used = (clone / PARAMS).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{error.filename}: {error.strerror}: prepare the study with `make study STUDY={name}`"
        ) from None
    first, *rest = re.escape(profile).split(re.escape(f"source: {PLACE}/"))
    pattern = first + "".join(
        ("source: (?P<data>.+)/" if place == 0 else "source: (?P=data)/") + text for place, text in enumerate(rest)
    )
    if not (found := re.fullmatch(pattern, used)):
        raise UserError(
            f"{clone / PARAMS}: is not profiles/{name}.yaml: prepare the study with `make study STUDY={name}`"
        )
    return profile, found["data"] if rest else PLACE


def _is_drawn_twice(file: Path) -> bool:
    """Whether it is a plot's copy in pixels, which a repository need not keep beside the plot."""
    return file.suffix == ".png" and file.with_suffix(".svg").exists()


def _may_be_a_photograph(file: Path, reports: Path) -> bool:
    """Whether a file of the report is, or holds, a picture that is neither a plot nor a map."""
    if file.suffix == ".png":
        return not MAPS.fullmatch(file.relative_to(reports).as_posix())
    return file.suffix not in TEXTS or b"data:image/jpeg" in file.read_bytes()


def _readme(clone: Path, name: str, parameters: str) -> str:
    """What was run, with which command, on which machine, and how long; and Table 1."""
    params = load_params(clone / PARAMS)
    times = read_wall_times(clone / WALL_TIMES, option_values(params))
    about = re.match(r"(#.*\n)*", parameters)[0]  # type: ignore[index]  # matches always
    here = machine()
    facts = {
        "command": f"`make study STUDY={name} DATA=<folder of the unpacked data sets>`",
        "commit": commit(clone),
        "machine": f"{here['Processor']}, {here['Cores']} cores, {here['System']}, PyTorch {metadata.version('torch')}",
        "time": f"{format_duration(sum(seconds for *_, seconds in times))}, of all stages together; each has "
        f"{params.threads or 'all'} {'core' if params.threads == 1 else 'cores'}, and they run side by side",
        "longest": "; ".join(
            f"{stage} {format_duration(seconds)} ({items:,} items)"
            for stage, items, seconds in sorted(times, key=lambda each: -each[2])[:5]
        ),
    }
    rows = "\n".join(f"| {fact} | {text} |" for fact, text in facts.items())
    about = re.sub(r"(?m)^  +", "    ", re.sub(r"(?m)^# ?", "", about)).strip()  # four blanks are a block of code
    table1 = (clone / REPORTS / "tables/table1.md").read_text(encoding="utf-8").strip()
    return (
        f"# {params.profile[0].upper()}{params.profile[1:]}\n\n{about}\n\n| | |\n| --- | --- |\n{rows}\n\n"
        "[index.html](index.html) is the whole report, without photographs, and [claims.md](claims.md) has the verdict "
        f"on each claim. {FOLDER}/ holds what it is made from, such as every run's predictions. What was interrupted "
        "and resumed counts in the time from where it went on.\n\n"
        f"#{table1}\n"
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clone", type=Path, help="the study's clone, build/<name>")
    parser.add_argument("out", type=Path, help="studies/<name>")
    options = parser.parse_args()
    with exit_on_user_error():
        publish(options.clone, options.out)


if __name__ == "__main__":
    main()
