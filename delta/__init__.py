"""DELTA: fine-tuning with feature-map regularization and supervised attention (Li et al., ACM TKDD 2021).

The library behind the pipeline's stages. It knows nothing of DVC and of no path in this repository: every function
takes what it needs and returns or writes what it made.
"""
