"""From image files to batches: listing, decoding, splitting and packing; `packed` reads what was packed."""
