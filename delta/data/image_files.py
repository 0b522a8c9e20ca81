"""Finding the image files in a folder, and what is left out there."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from delta.data.images import is_image, readable_suffixes
from delta.io.errors import abbreviate

# What file managers, photo libraries and network drives leave in folders, in lower case: thumbnails, settings, bins.
_SYSTEM = {
    "@eadir",
    "@recycle",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "__macosx",
    "desktop.ini",
    "ehthumbs.db",
    "lost+found",
    "picasa.ini",
    "system volume information",
    "thumbs.db",
}
# Folders of smaller copies, inside a folder of photographs; a class may well be called so.
_THUMBNAILS = {"thumb", "thumbnail", "thumbnails", "thumbs"}


@dataclass
class FoundFiles:
    """What was found in folders.

    Attributes:
        images: files to decode, sorted.
        others: files that are no images.
        hidden: hidden files and folders, those of `_SYSTEM`, and folders of thumbnails; what lies in such a folder is
            not listed.
        links: symbolic links to folders, which are not followed.
    """

    images: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)

    def add(self, further: Self) -> None:
        """Append what was found elsewhere."""
        self.images += further.images
        self.others += further.others
        self.hidden += further.hidden
        self.links += further.links

    def left_out(self, root: Path | None = None) -> list[str]:
        """What is left out, a sentence for each kind, with how many and the first names.

        Args:
            root: a folder that the names are to be relative to.
        """
        suffixes = Counter(path.suffix.lower() or "without suffix" for path in self.others)
        kinds = ", ".join(f"{suffix} ({count:,})" for suffix, count in suffixes.most_common(10))
        sentences = []
        for paths, what in (
            (self.others, f"file(s) that are no images: {kinds}"),
            (self.hidden, "hidden, system or thumbnail file(s) and folder(s)"),
            (self.links, "linked folder(s)"),
        ):
            names = [str(path.relative_to(root) if root else path) for path in paths]
            sentences += [f"left out {len(paths):,} {what}: {abbreviate(names, 5)}"] if names else []
        return sentences


def find_images(folder: Path) -> FoundFiles:
    """The files in a folder, at any depth.

    Image files are recognised by their suffix, or by their contents if they have none. Symbolic links to files are
    followed, those to folders are not; a link that leads nowhere counts as the file that it should be.

    Raises:
        OSError: a folder cannot be read.
    """
    found, suffixes = FoundFiles(), readable_suffixes()
    for parent, folders, files in os.walk(folder, onerror=_raise):
        kept = []
        for path in (Path(parent, name) for name in folders):
            if is_hidden(path) or path.name.lower() in _THUMBNAILS:
                found.hidden.append(path)
            elif path.is_symlink():
                found.links.append(path)
            else:
                kept.append(path.name)
        folders[:] = kept
        for path in (Path(parent, name) for name in files):
            if is_hidden(path):
                found.hidden.append(path)
            elif _is_image_file(path, suffixes):
                found.images.append(path)
            else:
                found.others.append(path)
    for paths in (found.images, found.others, found.hidden, found.links):
        paths.sort()
    return found


def is_hidden(path: Path) -> bool:
    """Whether a file or folder is hidden or one of `_SYSTEM`."""
    return path.name.startswith(".") or path.name.lower() in _SYSTEM


def _is_image_file(path: Path, suffixes: set[str]) -> bool:
    if not path.suffix:
        return path.is_file() and is_image(path)
    return path.suffix.lower() in suffixes and (path.is_file() or path.is_symlink())


def _raise(error: OSError) -> None:
    raise error
