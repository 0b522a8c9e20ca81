"""Draw docs/own-data.svg from docs/own-data.csv: `python -m docs.own_data`.

The table has one row per run: training photographs per class, method, alpha (none for L2-FE and L2), seed and test
top-1 (percent). Runs are in the default view, except those of methods that end in -improved.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from delta.report.figure_style import LOOKS, RC

DOCS = Path(__file__).parent
NAMES = {"l2_fe": "L2-FE", "l2": "L2", "l2_sp": "L2-SP", "delta": "DELTA"}

runs = pd.read_csv(DOCS / "own-data.csv")
cells = runs.groupby(["train_per_class", "method", "alpha"], dropna=False)["top1"].agg(["mean", "std"]).reset_index()
most = cells["train_per_class"].max()
with plt.rc_context(RC):
    figure, (by_alpha, by_number) = plt.subplots(1, 2, figsize=(7.2, 3.1), sharey=True)
    delta = cells[(cells["method"] == "delta") & (cells["train_per_class"] == most)]
    by_alpha.errorbar(
        delta["alpha"], delta["mean"], delta["std"], color=LOOKS["delta"].colour, marker="D", capsize=2, label="DELTA"
    )
    for method, dashes in {"l2_fe": (4, 2), "l2": (1, 1.5)}.items():
        level = cells[(cells["method"] == method) & (cells["train_per_class"] == most)]["mean"].item()
        by_alpha.axhline(level, color=LOOKS[method].colour, dashes=dashes, label=NAMES[method])
    by_alpha.set(xscale="log", xlabel="α", ylabel="test top-1 (%), mean ± std over seeds")
    by_alpha.set_title(f"{most} photographs a class")
    by_alpha.legend(loc="lower left")

    shown = cells[cells["alpha"].isna() | (cells["alpha"] == 0.01)]
    for place, (method, name) in enumerate(NAMES.items()):
        line = shown[shown["method"] == method]
        by_number.errorbar(
            line["train_per_class"] * 1.02 ** (place - 1.5),
            line["mean"],
            line["std"],
            color=LOOKS[method].colour,
            marker=LOOKS[method].marker,
            capsize=2,
            label=name,
        )
    counts = sorted(shown["train_per_class"].unique())
    by_number.set(xscale="log", xlabel="photographs a class to train on")
    by_number.set_xticks(counts, [str(count) for count in counts])
    by_number.minorticks_off()
    by_number.set_title("α = 0.01")
    by_number.legend(loc="lower right")
    figure.savefig(DOCS / "own-data.svg", metadata={"Date": None})
