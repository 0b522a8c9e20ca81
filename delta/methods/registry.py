"""Finding the methods by their keys."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path

from delta.io.errors import UserError
from delta.methods.base import Method

_SHARED = ("base", "channel_weights", "registry", "selection")  # modules in this folder that are not methods
_FOLDER = Path(__file__).parent

KEYS = tuple(module.name for module in pkgutil.iter_modules([str(_FOLDER)]) if module.name not in _SHARED)
PAPER = ("l2_fe", "l2", "l2_sp", "l2_sp_att", "delta_wo_att", "delta")  # that the paper compares
ALWAYS_TRAINED = ("probe", "l2_fe")  # params.yaml does not list them in `methods`


def method_class(key: str) -> type[Method]:
    """The one class that the module of this key defines. No other method's module is imported.

    Raises:
        UserError: the module cannot be imported, or does not define exactly one method with a label.
    """
    name, file = f"delta.methods.{key}", f"delta/methods/{key}.py"
    try:
        module = import_module(name)
    except Exception as error:  # a method of the user's own may raise any
        raise UserError(f"{file}: cannot be imported ({type(error).__name__}: {error})") from error
    classes = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, Method)]
    found = [c for c in classes if c.__module__ == name]
    if len(found) != 1:
        raise UserError(f"{file}: must define exactly one subclass of Method, but defines {len(found)}")
    if not isinstance(getattr(found[0], "label", None), str):
        raise UserError(f"{file}: {found[0].__name__} needs a `label`, its name in tables and figures")
    return found[0]
