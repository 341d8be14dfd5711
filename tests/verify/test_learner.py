"""The learner's process, as far as it shows without a job: what a job shows is elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from verify.learner import limit_gpu


@pytest.fixture
def queued() -> Iterator[list[tuple[object, object]]]:
    """What torch does when CUDA is first used; as it was afterwards."""
    calls: list[tuple[object, object]] = torch.cuda._queued_calls
    before = list(calls)
    yield calls
    calls[:] = before


@pytest.mark.skipif(torch.cuda.is_initialized(), reason="CUDA is in use already, on this GPU")
def test_a_share_of_each_gpu_is_set_when_cuda_is_first_used_and_not_before(
    queued: list[tuple[object, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[tuple[float, int]] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda,
        "set_per_process_memory_fraction",
        lambda share, device: shares.append((share, device)),
    )
    limit_gpu(0.25)
    assert shares == []
    assert not torch.cuda.is_initialized()
    call = queued[-1][0]
    assert callable(call)
    call()
    assert shares == [(0.25, 0), (0.25, 1)]
