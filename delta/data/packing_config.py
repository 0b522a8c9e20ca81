"""How packed images are stored; it needs no other package, as params.yaml is checked in every stage."""

from __future__ import annotations

from typing import Literal, TypeAlias

Packing: TypeAlias = Literal["raw", "jpeg"]
