"""The methods that are compared: one module each, named as the method's key in params.yaml.

    loss = mean_i CE(z(x_i, ω), y_i) + α · Ω_shared + β · ½‖ω_P‖²        (Equations (6) and (7))

A module holds one class: its fields are its section of params.yaml, `shared_penalty` is its Ω_shared. To add a method,
write its module, give it a section in params.yaml and name it in `methods` there; nothing else is trained again.
"""

from importlib import import_module
from pkgutil import iter_modules

from delta.regularizers import Method


def _method(key: str) -> type[Method]:
    """The one class that the module of this key defines."""
    name = f"{__name__}.{key}"
    classes = [c for c in vars(import_module(name)).values() if isinstance(c, type) and issubclass(c, Method)]
    (found,) = [c for c in classes if c.__module__ == name]
    return found


METHODS: dict[str, type[Method]] = {module.name: _method(module.name) for module in iter_modules(__path__)}
