"""The Ray task that runs a stage. Ray ships its code to the node, which needs only Ray and the shared workspace."""

from __future__ import annotations

from typing import Any

NODE = "Ray's node"  # marks the line of a stage's log with which an attempt to run it begins


def run_command(job: dict[str, Any], supervisor: str) -> dict[str, Any]:
    """Run a stage's command in the shared workspace, with its output appended to the stage's log.

    Args:
        job: the supervisor's input, with the additional key `environment`: variables to set on top of the node's.
        supervisor: the source code of `cluster.supervisor`.

    Returns:
        `node` (its address), `seconds`, and `exit_code` or, if the command could not be run, `error`.
    """
    import json
    import os
    import subprocess
    import sys
    import time
    from pathlib import Path

    import ray

    node, node_id = ray.util.get_node_ip_address(), ray.get_runtime_context().get_node_id()
    started = time.monotonic()
    try:
        with Path(job["log"]).open("a", encoding="utf-8") as log:
            log.write(f"# {time.strftime('%F %T')} on {node}, {NODE} {node_id}\n")
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", supervisor],
            env=os.environ | job["environment"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    except OSError as error:
        return {"node": node, "error": f"{error}: is the workspace at this path on every node?"}
    with process:
        assert process.stdin is not None and process.stdout is not None  # both are pipes
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline() or '{"error": "its supervisor was killed"}')
    return {"node": node, "seconds": time.monotonic() - started, **answer}
