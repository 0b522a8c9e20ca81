"""The command that classifies images: its standard output and standard error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from delta.predict import command
from delta.predict.classifier import Classifier

ROOT = Path(__file__).parents[2]


@pytest.fixture
def called(capsys):
    """A function that calls the command; it returns exit code, standard output and the last line of standard error."""

    def call(*arguments) -> tuple[int, str, str]:
        code = 0
        try:
            command.main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = ended.code
        out, err = capsys.readouterr()
        if isinstance(code, str):  # Python prints it and exits with code 1
            code, err = 1, f"{err}{code}"
        return code, out, err.replace("\r", "\n").splitlines()[-1]

    return call


def probabilities(run: Path, image: Path) -> dict[str, float]:
    classifier = Classifier.open(run)
    (seen,) = classifier.classify([image])
    return dict(zip(classifier.classes, seen.probabilities.tolist(), strict=True))


def test_the_printed_table(called, run, photographs):
    images = [photographs / "ant/0.png", photographs / "cow/1.png"]
    code, out, progress = called(run, *images)
    assert code == 0
    assert "2/2" in progress
    lines = out.splitlines()
    width = len(str(images[0]))
    assert lines[0] == f"{'image':{width}}  class  probability"
    assert len({len(line) for line in lines}) == 1
    for place, image in enumerate(images):
        # There are three classes, the most likely first.
        expected = sorted(probabilities(run, image).items(), key=lambda pair: -pair[1])
        block = lines[1 + 3 * place : 4 + 3 * place]
        assert [line[:width].rstrip() for line in block] == [str(image), "", ""]
        assert [line[width:].split() for line in block] == [[name, f"{100 * p:.1f}", "%"] for name, p in expected]
    assert len(lines) == 7


def test_json_of_a_folder(called, run, photographs):
    code, out, _ = called(run, photographs / "bee", "--json", "--top", 2)
    assert code == 0
    entries = json.loads(out)
    assert [entry["image"] for entry in entries] == [str(photographs / f"bee/{number}.png") for number in range(7)]
    expected = probabilities(run, photographs / "bee/0.png")
    best = sorted(expected, key=expected.get, reverse=True)[:2]
    assert [prediction["class"] for prediction in entries[0]["predictions"]] == best
    found = [prediction["probability"] for prediction in entries[0]["predictions"]]
    assert found == pytest.approx([expected[name] for name in best], abs=1e-6)


@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_a_bad_file_is_reported_at_the_end(called, run, photographs, tmp_path, json_too):
    bad, gone = tmp_path / "bad.jpg", tmp_path / "gone.jpg"
    bad.write_text("no image")
    code, out, error = called(run, bad, photographs / "ant/0.png", gone, *json_too)
    assert code == 1
    assert error == (
        f"error: 2 unreadable image file(s): {bad} (not an image), {gone} (No such file or directory): "
        "repair or remove them"
    )
    if json_too:
        first, second, third = json.loads(out)
        assert (first, third["error"]) == ({"image": str(bad), "error": "not an image"}, "No such file or directory")
        assert second["image"] == str(photographs / "ant/0.png")
    else:
        assert len(out.splitlines()) == 4
        assert "bad.jpg" not in out


def test_the_table_is_empty_if_no_file_is_readable(called, run, tmp_path):
    code, out, _ = called(run, tmp_path / "gone.jpg")
    assert (code, out) == (1, "image  class  probability\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{tmp}", "{tmp}"], 1, "error: {tmp}: not a run's folder, such as runs/<data set>/<backbone>/<method>/<seed>"),
        (["{run}", "{tmp}"], 1, "error: {tmp}: a folder without image files"),
        (["{run}", "x.jpg", "--device", "gpu"], 1, "error: device: 'gpu' is none of auto, cpu, cuda and cuda:<number>"),
        (["{run}", "x.jpg", "--device", "cuda:99"], 1, "error: device: cuda:99 requested, "),
        (["{run}", "x.jpg", "--top", "0"], 2, "argument --top: '0' is not a positive number"),
        (["{run}"], 2, "the following arguments are required: IMAGE"),
    ],
)
def test_user_errors_are_one_line(called, run, tmp_path, arguments, code, message):
    ended, out, error = called(*(argument.format(run=run, tmp=tmp_path) for argument in arguments))
    assert (ended, out) == (code, "")
    assert message.format(tmp=tmp_path) in error


def test_the_command_runs_in_any_folder(run, photographs, tmp_path):
    """Its output can be piped, because standard output has only JSON."""
    line = [sys.executable, "-m", "delta.predict", str(run), str(photographs / "ant"), "--json"]
    done = subprocess.run(line, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 7
    assert "7/7" in done.stderr
    assert not list(tmp_path.iterdir())
