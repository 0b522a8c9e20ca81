"""timm, imported without torch._dynamo: a third of what a process spends on imports.

timm imports it twice, for nothing that is used here: it excludes a function from compilation, and torchvision's
operators ask whether they can be compiled. For the time of the import, the first does nothing, and the second asks when
it needs the answer.
"""

import sys
from types import ModuleType
from typing import Any

import torch

_UTILS = "torch._dynamo.utils"


def _is_compile_supported(device_type: str) -> bool:
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device_type)


def _leave(function: Any = None, **_: Any) -> Any:
    """Stands in for the decorator `torch.compiler.disable`."""
    return function or _leave


if _UTILS in sys.modules:
    import timm
else:
    _stand_in, _disable = ModuleType(_UTILS), torch.compiler.disable
    _stand_in.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    sys.modules[_UTILS] = _stand_in
    torch.compiler.disable = _leave  # type: ignore[assignment]
    try:
        import timm
    finally:
        torch.compiler.disable = _disable
        del sys.modules[_UTILS]

__all__ = ["timm"]
