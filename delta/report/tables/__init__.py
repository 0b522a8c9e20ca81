"""The tables of the report: one module each, found by its presence (see `base.py` for what it holds)."""
