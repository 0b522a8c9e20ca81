"""Longer studies: `make study` makes one from its profile in a clone of the commit; its results are committed here.

A study is `profiles/<name>.yaml`. Its data sets lie unpacked in one folder, which the profile calls `/data`.
"""
