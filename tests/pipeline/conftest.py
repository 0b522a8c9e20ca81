"""The fixture of tests that share a reproduced clone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.clone import Clone


@pytest.fixture
def clone(reproduced: Clone) -> Iterator[Clone]:
    """The module's reproduced clone; after the test it is restored."""
    yield reproduced
    reproduced.restore()
