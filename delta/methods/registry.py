"""Finding the methods by their keys."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path

from delta.methods.base import Method

_SHARED = ("base", "channel_weights", "registry")  # the modules beside this one that are no methods
_FOLDER = [str(Path(__file__).parent)]

KEYS = tuple(module.name for module in pkgutil.iter_modules(_FOLDER) if module.name not in _SHARED)


def method_class(key: str) -> type[Method]:
    """The one class that the module of this key defines; no other method's module is imported."""
    name = f"delta.methods.{key}"
    classes = [c for c in vars(import_module(name)).values() if isinstance(c, type) and issubclass(c, Method)]
    (found,) = [c for c in classes if c.__module__ == name]
    return found
