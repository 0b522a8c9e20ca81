"""What Ray runs on a node. Ray carries this function's code there: a node needs Ray and the workspace, nothing else."""

from __future__ import annotations

NODE = "Ray's node"  # in the line of a stage's log with which an attempt at it begins


def run_command(job: dict, supervisor: str) -> dict:
    """Run a stage's command in the shared workspace, its output going to the stage's log.

    Args:
        job: what the supervisor reads, and `environment`, the variables that differ from the node's own.
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
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline() or '{"error": "its supervisor was killed"}')
    return {"node": node, "seconds": time.monotonic() - started, **answer}
