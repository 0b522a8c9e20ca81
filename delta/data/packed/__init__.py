"""Reading packed data sets: the index, the pixels, and the views that networks are trained and tested on."""
