"""A GPU for every test in here, or the reason why it is skipped."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def gpu() -> str:
    """The GPU's name."""
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    return torch.cuda.get_device_name(0)
