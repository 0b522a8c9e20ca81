"""The analyses beside Table 1, one module each, and modules that several of them share."""
