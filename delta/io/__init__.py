"""Errors, files, locks, sections of params.yaml, YAML, signals, downloads and archives.

Stages depend only on `archives` and `downloads`.
"""
