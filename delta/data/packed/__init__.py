"""A packed data set on disk: its index, its pixels, and the views that a network is trained and tested on."""
