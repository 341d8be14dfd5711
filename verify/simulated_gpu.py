"""A simulated machine for scenes: with a GPU or without, whatever this one has.

What asks for a GPU is answered as the simulated machine would, and what is moved to it stays in
main memory, is computed by the CPU and only *says* that it is on ``cuda:0``. Two devices in one
operation are refused as torch refuses them, so a batch that was left behind shows on any machine.
Not simulated are streams, events, and threads: a new thread sees the real machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any, Final, NoReturn
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._pytree import tree_map
from transformers.utils import import_utils

_GPU: Final = torch.device("cuda", 0)
_CPU: Final = torch.device("cpu")
_MIXED: Final = "Expected all tensors to be on the same device, but found cuda:0 and cpu!"
_TO_NUMPY: Final = (
    "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to "
    "host memory first."
)
_SET_DATA: Final = vars(torch._C.TensorBase)["data"].__set__
_SET_GRAD: Final = vars(torch._C.TensorBase)["grad"].__set__
_TWO_DEVICES: Final = (  # what takes tensors of both
    *(Tensor.copy_, Tensor.__getitem__, Tensor.__setitem__, _SET_GRAD),
    torch._has_compatible_shallow_copy_type,
)
_GIB: Final = 2**30


@dataclasses.dataclass
class Account:
    """What was seen on a machine.

    Attributes:
        copies: Tensors that were copied to the GPU; single numbers (0-d) do not count.
    """

    copies: int = 0


@contextlib.contextmanager
def machine(*, gpu: bool, built: bool = True) -> Iterator[Account]:
    """Make torch behave as on another machine until the context ends.

    Replaced is what torch's public functions end in, so that it does not matter which of them is
    used (``torch.cuda``, ``torch.accelerator``, ``device="cuda"`` in a ``try``) or when it was
    imported.

    Args:
        gpu: Whether there is a GPU: one, of compute capability 12.1, with room for anything.
        built: Whether torch is built for CUDA at all, which it may be without a GPU.
    """
    account = Account()
    with contextlib.ExitStack() as stack:
        for owner, name, instead in _answers(gpu, built):
            stack.enter_context(mock.patch.object(owner, name, instead, create=True))
        # A thread would load weights past this context: transformers/core_model_loading.py
        stack.enter_context(mock.patch.dict(os.environ, {"HF_DEACTIVATE_ASYNC_LOAD": "1"}))
        import_utils.is_torch_cuda_available.cache_clear()  # transformers remembers the answer
        stack.callback(import_utils.is_torch_cuda_available.cache_clear)
        stack.callback(torch.set_default_device, None)
        stack.enter_context(_Devices(gpu, built, account))
        yield account


def _answers(gpu: bool, built: bool) -> list[tuple[Any, str, Any]]:
    """Return what to put in the place of what, for every way of asking."""
    core, nothing, here = torch._C, lambda *_a, **_k: None, lambda *_a, **_k: 0
    count, build = int(gpu), torch.device("cuda") if built else None

    def initialise(*_a: Any, **_k: Any) -> None:
        if not gpu:
            _no_gpu(built)

    return [
        (core, "_has_cuda", built),
        (core, "_cuda_getDeviceCount", lambda: count),
        (core, "_accelerator_getAccelerator", lambda *_: build),
        (core, "_accelerator_getDeviceIndex", here),
        (core, "_accelerator_getStream", lambda *_: SimpleNamespace(is_capturing=lambda: False)),
        (core, "_cuda_getDevice", here),
        (core, "_cuda_setDevice", nothing),
        (torch.version, "cuda", "13.0" if built else None),
        (torch.cuda, "_cached_device_count", None),
        (torch.cuda, "_device_count_nvml", lambda: -1),  # "ask CUDA", which is answered above
        (torch.cuda, "_lazy_init", initialise),
        (torch.cuda.memory, "_lazy_init", initialise),
        (torch.cuda, "_get_device_properties", _properties),
        (torch.cuda, "_exchange_device", here),
        (torch.cuda, "_maybe_exchange_device", here),
        (torch.cuda, "synchronize", initialise),
        (torch.cuda, "cudart", lambda: SimpleNamespace(cudaMemGetInfo=_memory)),
    ]


def _properties(*_: Any) -> SimpleNamespace:
    return SimpleNamespace(
        name="Simulated GPU", major=12, minor=1, total_memory=_memory()[1],
        multi_processor_count=48, is_integrated=False,
    )  # fmt: skip


def _memory(*_: Any) -> tuple[int, int]:
    return 110 * _GIB, 120 * _GIB


def _no_gpu(built: bool) -> NoReturn:
    if built:
        raise RuntimeError("No CUDA GPUs are available")
    raise AssertionError("Torch not compiled with CUDA enabled")


class _OnGpu(Tensor):
    """A tensor of the simulated GPU: as long as a mode is active it says so."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return _GPU if torch._C._len_torch_function_stack() else _CPU

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return self.device is _GPU

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return self.device is _CPU


class _Devices(TorchFunctionMode):
    """Sees every call of a torch function, and keeps account of which tensors are where."""

    def __init__(self, gpu: bool, built: bool, account: Account) -> None:
        super().__init__()
        self.gpu = gpu
        self.built = built
        self.account = account

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        given: dict[str, Any] = dict(kwargs or {})
        if func in (Tensor.to, Tensor.cuda, Tensor.cpu):
            return self._move(func, *args, **given)
        if func == _SET_DATA:
            _set_data(*args)
            return None
        if func is torch.device:
            return self._reach(args[0]) if type(args[0]) is int else func(*args, **given)
        if func in _device_constructors():
            given["device"] = given.get("device", _default_device())
        tensors = list(_tensors((*args, *given.values()))) if self.gpu else []
        here = any(isinstance(tensor, _OnGpu) for tensor in tensors)
        if here and func is Tensor.numpy:
            raise TypeError(_TO_NUMPY)
        target = _GPU if here else _CPU
        if given.get("device") is not None:
            target = self._reach(given["device"])
            given["device"] = _CPU if target is _GPU else target
        elif here and func not in _TWO_DEVICES and any(map(_left_behind, tensors)):
            raise RuntimeError(_MIXED)
        result = func(*args, **given)
        return _all_put(result, target) if target is _GPU else result

    def _reach(self, device: Any) -> torch.device:
        """Return a device as `torch.device`; raise as torch does if it is a GPU that is missing."""
        wanted = _GPU if type(device) is int else torch.device(device)
        if wanted.type != "cuda":
            return wanted
        if not self.gpu:
            _no_gpu(self.built)
        return _GPU

    def _move(self, func: Any, tensor: Tensor, *args: Any, **given: Any) -> Tensor:
        """Return what ``to``, ``cuda`` or ``cpu`` gives: the tensor itself if nothing changes."""
        now = _GPU if isinstance(tensor, _OnGpu) else tensor.device
        if func is not Tensor.to:
            args, given = (_GPU if func is Tensor.cuda else _CPU,), {}
        copy = given.pop("copy", False)
        other = args[0] if args else given.pop("other", None)
        if isinstance(other, Tensor):
            args = (_GPU if isinstance(other, _OnGpu) else other.device, other.dtype)
        elif type(other) is int:
            args = (_GPU, *args[1:])
        if type(given.get("device")) is int:
            given["device"] = _GPU
        device, dtype, _, layout = torch._C._nn._parse_to(*args, **given)
        target = now if device is None else self._reach(device)
        away = (target is _GPU) != (now is _GPU)
        self.account.copies += away and target is _GPU and tensor.dim() > 0
        place, layout = _CPU if target is _GPU else target, layout or torch.preserve_format
        moved = tensor.to(place, dtype or tensor.dtype, copy=copy or away, memory_format=layout)
        return _put(moved, target) if target is _GPU else _back(moved)


def _left_behind(tensor: Tensor) -> bool:
    """Tell whether a tensor may not be used together with one on the GPU; a 0-d one may."""
    return tensor.dim() > 0 and not isinstance(tensor, _OnGpu)


def _default_device() -> torch.device | None:
    """Return what ``torch.set_default_device`` was told; its own mode sits below this one."""
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return None if context is None else context.device


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors among ``values`` and in the lists and tuples there."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _all_put(result: Any, target: torch.device) -> Any:
    if isinstance(result, Tensor):
        return _put(result, target)
    if isinstance(result, Iterator):
        return (_put(item, target) for item in result)
    return tree_map(lambda item: _put(item, target), result)


def _put(item: Any, target: torch.device) -> Any:
    if target is _GPU and isinstance(item, Tensor) and not isinstance(item, _OnGpu):
        return item.as_subclass(_OnGpu)
    return item


def _back(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(Tensor) if isinstance(tensor, _OnGpu) else tensor


def _set_data(tensor: Tensor, data: Tensor) -> None:
    """Set ``tensor.data``, which is how a module moves its parameters: the same objects stay."""
    plain = nn.Parameter if isinstance(tensor, nn.Parameter) else Tensor
    _SET_DATA(tensor, data)
    if plain is nn.Parameter:
        tensor._is_param = True  # so it is one in any class
    tensor.__class__ = _OnGpu if isinstance(data, _OnGpu) else plain
