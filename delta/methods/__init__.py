"""The methods that are compared: one module each, named as the method's key in params.yaml.

    loss = mean_i CE(z(x_i, ω), y_i) + α · Ω_shared + β · ½‖ω_P‖²        (Equations (6) and (7))

A module holds one class: its fields are its section of params.yaml, `shared_penalty` is its Ω_shared. To add a method,
write its module, give it a section in params.yaml and name it in `methods` there; nothing else is trained again.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from delta.methods.base import Method

KEYS = tuple(module.name for module in iter_modules(__path__) if module.name not in ("base", "channel_weights"))


def method_class(key: str) -> type[Method]:
    """The one class that the module of this key defines; no other method's module is imported."""
    name = f"{__name__}.{key}"
    classes = [c for c in vars(import_module(name)).values() if isinstance(c, type) and issubclass(c, Method)]
    (found,) = [c for c in classes if c.__module__ == name]
    return found
