"""Bring published annotations of concepts here, for network dissection."""

from pathlib import Path

from delta.concepts import fetch_concepts
from delta.downloads import Downloads
from delta.files import whole_folder
from delta.params import Params
from stages import CHECKSUMS, concepts_folder, run_stage


def main(params: Params, concepts: str) -> None:
    downloads = Downloads(Path(params.downloads.folder), CHECKSUMS, params.downloads.mirror)
    with whole_folder(concepts_folder(concepts)) as out:
        fetch_concepts(concepts, downloads, out)


if __name__ == "__main__":
    run_stage(main)
