"""How many bytes a step really takes: CUDA's own count, or on a CPU every tensor that lives."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Meter(Protocol):
    """Measures from `begin` to `end`."""

    source: str

    def begin(self) -> None:
        """Begin to measure."""

    def lap(self) -> int:
        """Return the most bytes that were taken at once since, and begin anew."""

    def end(self) -> int:
        """Return the most bytes that were taken at once since, and stop."""


def meter(model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> Meter:
    """Return what measures a step of ``model`` on ``device``."""
    if device.type == "cuda":
        return CudaMeter()
    return LiveTensors(itertools.chain(held_by(model), states(optimizer)))


class CudaMeter:
    """Reads the peak of PyTorch's CUDA allocator, less what cuBLAS keeps there for itself.

    That is a workspace for each thread that multiplies, 8 MiB or, from Hopper on, 32 MiB: little
    beside a model, and more than a small one.
    https://docs.pytorch.org/docs/stable/notes/cuda.html#cublas-workspaces
    """

    source = "torch.cuda.max_memory_allocated, less the workspaces of cuBLAS"

    def __init__(self) -> None:
        self._workspaces = 0

    def begin(self) -> None:
        """Forget earlier peaks."""
        self._workspaces = self._workspaces or workspaces()
        torch.cuda.reset_peak_memory_stats()

    def lap(self) -> int:
        """Return the peak and forget it."""
        peak = self.end()
        self.begin()
        return peak

    def end(self) -> int:
        """Return the peak."""
        return torch.cuda.max_memory_allocated() - self._workspaces


def workspaces() -> int:
    """Return the bytes that cuBLAS keeps for this thread and for that of backward passes."""
    torch._C._cuda_clearCublasWorkspaces()
    before = torch.cuda.memory_allocated()
    one = torch.ones(1, 1, device="cuda", requires_grad=True)
    (one @ one).sum().backward()  # type: ignore[no-untyped-call]
    del one
    return torch.cuda.memory_allocated() - before


class LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storage of every tensor: those it is given, and all that operators return.

    A storage counts once, however many tensors share it, from the moment an operator returns it
    until nothing refers to it. Room that a kernel takes inside for itself is not seen, nor is what
    Python, the libraries and the allocator take.
    """

    source = "all tensors that live, by a trace of the operators"

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._living: dict[int, weakref.ref[Any]] = {}
        self._before = tensors

    def begin(self) -> None:
        """Begin to count."""
        for tensor in self._before:
            self._see(tensor)
        self._before = ()
        self.__enter__()  # type: ignore[no-untyped-call]

    def lap(self) -> int:
        """Return the peak, and begin anew with what lives now."""
        peak, self.peak = self.peak, self.now
        return peak

    def end(self) -> int:
        """Stop, and return the peak."""
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        return self.peak

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and see what it returns."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf)
        return result

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._living:
            return

        def gone(_: object) -> None:
            del self._living[key]
            self.now -= size

        self._living[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


def held_by(model: nn.Module) -> Iterator[Tensor]:
    """Yield all that a model holds: parameters, buffers, and what a quantised weight comes with."""
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        yield tensor.data
        state = getattr(tensor, "quant_state", None)
        if state is not None:
            yield from (state.absmax, state.code)
            if state.nested:
                yield from (state.offset, state.state2.absmax, state.state2.code)


def states(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    """Yield what an optimizer keeps for its parameters."""
    for kept in optimizer.state.values():
        yield from (it for it in kept.values() if isinstance(it, Tensor))
