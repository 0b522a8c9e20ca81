"""Classifying image files with a finished run: `python -m delta.predict [RUN] IMAGE...`."""
