"""The process that owns a stage's command on a node; it needs nothing but Python's standard library.

It reads what to run from standard input, one line of JSON, and answers with one line on standard output. Standard input
stays open as long as the command is wanted: when it ends, because the Ray worker at its other end has been cancelled,
has crashed or has lost its node, the command is killed with all the processes of its group. A lock on a file in the
shared workspace, which the command inherits, keeps a second run of the same stage waiting until that has happened, on
whatever node it is.
"""

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

GRACE = 5.0  # seconds between SIGTERM and SIGKILL


def main() -> None:
    job = json.loads(sys.stdin.buffer.readline())
    # A worker that exits kills its children before they could kill theirs: be nobody's child.
    if os.fork():
        os._exit(0)
    os.setsid()
    try:
        answer = {"exit_code": run(job)}
    except OSError as error:
        answer = {"error": str(error)}
    os.write(1, json.dumps(answer).encode() + b"\n")


def run(job: dict) -> int:
    """Run the commands one after another until one fails; the last one's exit code, or minus the signal's number."""
    lock = os.open(job["lock"], os.O_RDWR)
    wait_for(lock)
    for path in map(Path, job["remove"]):
        remove(path)
    wakeup, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with Path(job["log"]).open("ab") as log:
        for command in job["commands"]:
            child = subprocess.Popen(
                command,
                cwd=job["folder"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[lock],
            )
            if code := outcome(child, wakeup):
                return code
    return 0


def wait_for(lock: int) -> None:
    """Lock the file as soon as no other run of this stage holds it."""
    while True:
        if abandoned([0], timeout=0):
            os._exit(1)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
        else:
            break
    if not os.fstat(lock).st_nlink:  # the other run was recorded, and the file removed
        os._exit(1)


def remove(path: Path) -> None:
    """As DVC does before it runs a stage: a link without what it points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def outcome(child: subprocess.Popen, wakeup: int) -> int:
    """The exit code of a command; its group does not outlive it, nor it the wish for it."""
    while not ended(child):
        if abandoned([0, wakeup]):
            kill(child, signal.SIGTERM)
            deadline = time.monotonic() + GRACE
            while not ended(child) and time.monotonic() < deadline:
                time.sleep(0.05)
            kill(child, signal.SIGKILL)
            os._exit(1)
    kill(child, signal.SIGKILL)
    return child.wait()


def ended(child: subprocess.Popen) -> bool:
    """Whether the command has ended; it stays a zombie, so that its group's number is not given to others."""
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def kill(child: subprocess.Popen, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS permits no signal to a group of zombies
        os.killpg(child.pid, number)


def abandoned(watched: list[int], timeout: float | None = None) -> bool:
    """Wait until one of these is ready, or for `timeout` seconds; whether standard input has ended."""
    ready, _, _ = select.select(watched, [], [], timeout)
    for wakeup in ready:
        if wakeup:
            os.read(wakeup, 1024)
    return 0 in ready


if __name__ == "__main__":
    main()
