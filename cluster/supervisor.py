"""The process that supervises a stage's command on a node; it needs only Python's standard library.

It reads the job from standard input, as one line of JSON, and writes the result to standard output, as another. The Ray
worker keeps standard input open as long as the command should run: when it is closed, because the worker was cancelled
or crashed, or its node died, the supervisor kills the command's process group. The command inherits a lock on a file in
the shared workspace, for which another run of the same stage waits, on any node, until the command has ended.
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
from typing import Any

GRACE = 5.0  # seconds between SIGTERM and SIGKILL


def main() -> None:
    """Run the job from standard input in a detached process."""
    job = json.loads(sys.stdin.buffer.readline())
    # Detach from the Ray worker, which kills its children when it exits, before they could kill the command.
    if os.fork():
        os._exit(0)
    os.setsid()
    try:
        answer: dict[str, int | str] = {"exit_code": run(job)}
    except OSError as error:
        answer = {"error": str(error)}
    os.write(1, json.dumps(answer).encode() + b"\n")


def run(job: dict[str, Any]) -> int:
    """Run the commands one after another until one fails; return the exit code, or minus the signal's number."""
    lock = os.open(job["lock"], os.O_RDWR)
    acquire(lock)
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
            if code := wait(child, wakeup):
                return code
    return 0


def acquire(lock: int) -> None:
    """Wait until no other run of this stage holds the lock, and acquire it; exit if the command is cancelled."""
    while True:
        if is_stdin_closed([0], timeout=0):
            os._exit(1)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
        else:
            break
    if not os.fstat(lock).st_nlink:  # the other run has finished and was recorded, and the file was removed
        os._exit(1)


def remove(path: Path) -> None:
    """Remove an output like DVC does before it runs a stage: of a link, only the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def wait(child: subprocess.Popen[bytes], wakeup: int) -> int:
    """The exit code of a command, once it ends; its process group is killed then, and when standard input is closed."""
    while not has_exited(child):
        if is_stdin_closed([0, wakeup]):
            kill_group(child, signal.SIGTERM)
            deadline = time.monotonic() + GRACE
            while not has_exited(child) and time.monotonic() < deadline:
                time.sleep(0.05)
            kill_group(child, signal.SIGKILL)
            os._exit(1)
    kill_group(child, signal.SIGKILL)
    return child.wait()


def has_exited(child: subprocess.Popen[bytes]) -> bool:
    """Whether the command has exited; it is left a zombie, so that its process group ID is not reused."""
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def kill_group(child: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to the command's process group."""
    with suppress(ProcessLookupError, PermissionError):  # macOS forbids signals to a group of zombies
        os.killpg(child.pid, number)


def is_stdin_closed(descriptors: list[int], timeout: float | None = None) -> bool:
    """Wait until a descriptor is readable, or for `timeout` seconds; return whether standard input was closed."""
    ready, _, _ = select.select(descriptors, [], [], timeout)
    for wakeup in ready:
        if wakeup:
            os.read(wakeup, 1024)
    return 0 in ready


if __name__ == "__main__":
    main()
