"""The command that classifies images: its standard output and standard error."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest
import torch
from PIL import Image

from delta.data.images import decode
from delta.predict import command
from delta.predict.classifier import Classifier, preprocess
from tests.helpers.heic import write_heic
from tests.helpers.tiny import recommended

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


def test_letters_that_take_two_columns_of_a_terminal_are_aligned(called, run, photographs, tmp_path):
    """Chinese letters are drawn twice as wide as Latin ones; an accent of its own takes no place."""
    for name in ("向日葵.png", "e\u0301te\u0301.png", "ant.png"):
        shutil.copyfile(photographs / "ant/0.png", tmp_path / name)
    _, out, _ = called(run, tmp_path, "--top", 1)
    _, *rows = (line.replace(str(tmp_path), "") for line in out.splitlines())
    shown = [row.replace("向日葵", "123456").replace("\u0301", "") for row in rows]
    assert len({row.index("%") for row in shown}) == 1
    assert len({len(row) for row in shown}) == 1


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
        (["{tmp}", "{tmp}"], 1, "error: no run is named, and there is no recommended one here, runs/<data set>/best: "),
        (["{tmp}/run", "{tmp}"], 1, "error: {tmp}/run: neither a run's folder nor an image"),
        (["{run}", "{tmp}"], 1, "error: {tmp}: a folder without image files"),
        (["{run}", "x.jpg", "--device", "gpu"], 1, "error: device: 'gpu' is none of auto, cpu, cuda and cuda:<number>"),
        (["{run}", "x.jpg", "--device", "cuda:99"], 1, "error: device: cuda:99 requested, "),
        (["{run}", "x.jpg", "--top", "0"], 2, "argument --top: '0' is not a positive number"),
        (["{run}"], 1, "error: {run}: no images are named: python -m delta.predict {run} IMAGE..."),
        ([], 2, "the following arguments are required: [RUN] IMAGE"),
        (["{run}", "x.jpg", "--unknown"], 1, "error: {run}: cannot tell unknown images, only a recommended run can"),
    ],
)
def test_user_errors_are_one_line(called, run, tmp_path, arguments, code, message):
    with chdir(tmp_path):
        ended, out, error = called(*(argument.format(run=run, tmp=tmp_path) for argument in arguments))
    assert (ended, out) == (code, "")
    assert message.format(run=run, tmp=tmp_path) in error


def test_the_command_runs_in_any_folder(run, photographs, tmp_path):
    """Its output can be piped, because standard output has only JSON."""
    line = [sys.executable, "-m", "delta.predict", str(run), str(photographs / "ant"), "--json"]
    done = subprocess.run(line, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 7
    assert "7/7" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture
def project(run, data, tmp_path) -> Path:
    """A project with one recommended network, all of whose images are known but those that are the opposite of one."""
    recommended(run, data, tmp_path / "runs/photographs/best", temperature=3.0, threshold=-0.5)
    return tmp_path


@pytest.mark.parametrize("named", [True, False])
def test_the_recommended_network_is_taken_where_none_is_named(named, called, project, photographs):
    with chdir(project):
        run = ["runs/photographs/best"] if named else []
        code, out, _ = called(*run, photographs / "ant/0.png", "--json")
        assert code == 0
        (entry,) = json.loads(out)
        expected = probabilities(Path("runs/photographs/best"), photographs / "ant/0.png")
    assert {each["class"]: each["probability"] for each in entry["predictions"]} == pytest.approx(expected)


def test_the_network_that_is_taken_is_told(project, photographs, capsys):
    with chdir(project):
        command.main([str(photographs / "ant/0.png")])
    assert capsys.readouterr().err.startswith("RUN: runs/photographs/best\n")


def test_of_several_recommended_networks_one_must_be_named(called, project, run, data, photographs):
    recommended(run, data, project / "runs/birds/best")
    with chdir(project):
        code, out, error = called(photographs / "ant/0.png")
        assert (code, out) == (1, "")
        named = "runs/birds/best, runs/photographs/best"
        assert error == f"error: no run is named, and several are recommended: name one of {named}"
        assert called("runs/birds/best", photographs / "ant/0.png")[0] == 0


def test_unknown_images(called, project, run, data, photographs, tmp_path):
    """One of two images is below a threshold between their similarities."""
    images = [photographs / "ant/0.png", photographs / "cow/6.png"]
    classifier = Classifier.open(project / "runs/photographs/best")
    crops = [preprocess(classifier.view, decode(image)) for image in images]
    similar = classifier.outputs(torch.stack(crops))[1].tolist()
    assert similar[0] != similar[1]
    best = recommended(run, data, tmp_path / "between", threshold=sum(similar) / 2)
    unknown = [similarity < sum(similar) / 2 for similarity in similar]
    code, out, _ = called(best, *images, "--json", "--unknown")
    assert code == 0
    assert [entry["unknown"] for entry in json.loads(out)] == unknown
    assert all(len(entry["predictions"]) == 3 for entry in json.loads(out))
    _, out, _ = called(best, *images, "--unknown", "--top", 1)
    assert [line.split()[1] == "unknown" for line in out.splitlines()[1:]] == unknown
    _, plain, _ = called(best, *images, "--top", 1)
    assert "unknown" not in plain
    assert "unknown" not in called(best, *images, "--json")[1]


def test_files_that_are_left_out_of_a_folder_are_said(capsys, run, photographs, tmp_path):
    """A phone's folder: the pictures among them are classified, HEIC too."""
    folder = tmp_path / "phone"
    (folder / ".thumbnails").mkdir(parents=True)
    shutil.copy(photographs / "ant/0.png", folder / "IMG_0.PNG")
    shutil.copy(photographs / "ant/0.png", folder / ".thumbnails/IMG_0.PNG")
    write_heic(folder / "IMG_1.HEIC", Image.open(photographs / "bee/1.png").convert("RGB"))
    Image.new("RGB", (60, 50), "red").save(folder / "red.png")
    for number in range(7):
        (folder / f"IMG_{number}.MOV").write_bytes(b"film")
    (folder / "linked").symlink_to(photographs)
    command.main([str(run), str(folder), "--json"])
    out, err = capsys.readouterr()
    assert [Path(entry["image"]).name for entry in json.loads(out)] == ["IMG_0.PNG", "IMG_1.HEIC", "red.png"]
    assert [line for line in err.replace("\r", "\n").splitlines() if line.startswith("note: ")] == [
        "note: left out 7 file(s) that are no images: .mov (7): "
        + ", ".join(f"{folder}/IMG_{number}.MOV" for number in range(5))
        + " and 2 more",
        f"note: left out 1 hidden, system or thumbnail file(s) and folder(s): {folder}/.thumbnails",
        f"note: left out 1 linked folder(s): {folder}/linked",
        f"note: 1 image(s) of one colour only: {folder}/red.png",
    ]


def test_a_folder_without_images_says_what_is_there(called, run, tmp_path):
    (tmp_path / "clip.mov").touch()
    code, out, error = called(run, tmp_path)
    assert (code, out) == (1, "")
    why = f"left out 1 file(s) that are no images: .mov (1): {tmp_path}/clip.mov"
    assert error.endswith(f"a folder without image files; {why}")


def test_a_line_break_in_a_file_name_breaks_no_line(called, run, photographs, tmp_path):
    odd = tmp_path / "a\r\nb\x1b[2J.png"
    shutil.copy(photographs / "ant/0.png", odd)
    code, out, _ = called(run, odd, "--top", 1)
    assert code == 0
    header, line = out.split("\n")[:2]
    assert line.startswith(rf"{tmp_path}/a\r\nb\x1b[2J.png  ")


def test_a_long_list_of_unreadable_files_is_cut_with_a_count(called, run, tmp_path):
    for number in range(500):
        (tmp_path / f"{number:03d}.jpg").write_text("no image")
    code, _, error = called(run, tmp_path, "--json")
    assert code == 1
    assert error.startswith("error: 500 unreadable image file(s): ")
    assert error.count(".jpg") == 10
    assert error.endswith(" and 490 more: repair or remove them")
