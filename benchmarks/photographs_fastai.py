"""fastai's `fine_tune` for benchmarks/photographs.py, in a process and an environment of its own.

Everything is as in fastai's tutorial of pets (docs.fast.ai/tutorial.vision), but that no training photograph is held
out for validation, and that a file has the weights.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pandas as pd
import torch
from fastai.vision.all import (
    Callback,
    CancelValidException,
    ImageDataLoaders,
    Resize,
    aug_transforms,
    set_seed,
    vision_learner,
)


class NoValidation(Callback):
    def before_validate(self) -> None:
        raise CancelValidException


def main(folder: Path) -> None:
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    index = pd.read_csv(folder / "index.csv", dtype={"path": str, "label": str}, keep_default_na=False)
    train, test = (index[index["split"] == split] for split in ("train", "test"))
    torch.set_num_threads(1)
    started, processor = time.perf_counter(), time.process_time()
    set_seed(settings["seed"], reproducible=True)
    loaders = ImageDataLoaders.from_df(
        train[["path", "label"]],
        settings["images"],
        valid_pct=0,
        item_tfms=Resize(460),
        batch_tfms=aug_transforms(size=settings["pixels"]),
        num_workers=0,
    )
    weights = {"file": str(folder / "weights.pth"), "mean": settings["mean"], "std": settings["std"]}
    learner = vision_learner(loaders, settings["architecture"], pretrained_cfg_overlay=weights)
    with learner.no_bar():
        learner.fine_tune(settings["epochs"], cbs=NoValidation())
        photographs = [Path(settings["images"]) / path for path in test["path"]]
        probabilities, _ = learner.get_preds(dl=loaders.test_dl(photographs, num_workers=0))
    predicted = [loaders.vocab[index] for index in probabilities.argmax(1).tolist()]
    result = {
        "seconds": time.perf_counter() - started,
        "processor": time.process_time() - processor,
        "predicted": predicted,
        "remark": f"{settings['epochs']} epochs",
    }
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
