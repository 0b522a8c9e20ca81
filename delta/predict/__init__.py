"""A finished run in use: the classes of image files, `python -m delta.predict RUN IMAGE...`."""
