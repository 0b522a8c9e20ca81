"""`dvc repro` on a Ray cluster instead of one machine: `python -m cluster repro`.

DVC provides the DAG and determines which stages are out of date (`project`). Ray schedules the stages' commands and
retries them when a node dies (`repro`). On the node, a supervisor process ensures that a command never outlives its
Ray task, and that no stage runs twice at the same time (`supervisor`).
"""
