"""Download published concept annotations for network dissection."""

from pathlib import Path

from delta.io.downloads import Downloads
from delta.io.files import atomic_folder
from delta.sources.concepts import fetch_concepts
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import CHECKSUMS, concepts_folder


def main(params: Params, concepts: str) -> None:
    downloads = Downloads(Path(params.downloads.folder), CHECKSUMS, params.downloads.mirror)
    with atomic_folder(concepts_folder(concepts)) as out:
        fetch_concepts(concepts, downloads, out)


if __name__ == "__main__":
    run_stage(main)
