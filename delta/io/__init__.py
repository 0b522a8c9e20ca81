"""Errors, files, downloads and signals: what no result depends on, so that DVC need not watch it."""
