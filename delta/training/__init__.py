"""One fine-tuning run: the loop, what a checkpoint of it holds, its test, and its folder on disk."""
