"""The tables of the report: one module each, found automatically (see `base.py` for what it holds)."""
