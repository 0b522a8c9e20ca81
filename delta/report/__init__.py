"""Results into tables, with the paper's own numbers as data."""
