"""Runs the project's DAG on a Ray cluster, as `dvc repro` runs it on one machine: `python -m cluster repro`.

DVC says what the DAG is and what is out of date (`project`), Ray decides where and when a stage's command runs and runs
it again when its node dies (`repro`), and on the node a process of its own sees to it that the command never outlives
the task, nor runs twice at once (`supervisor`).
"""
