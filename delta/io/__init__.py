"""Errors, files, downloads and signals. No result depends on them, so no DVC stage depends on this package."""
