"""From image files to batches: tables of images, decoding, splits, packing; `packed` reads packed data sets."""
