"""Libraries beside the lab's that must fit them, and whether the lab's have their native parts."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from packaging.requirements import Requirement

from verify.identity import normal
from verify.machine import Fault
from verify.trial import NotRun

# Built against one torch each: with another they end in undefined symbols, or in wrong results.
_BUILT_FOR_TORCH = ("torchvision", "torchaudio", "triton", "torchao", "xformers", "flash-attn")
_ASSEMBLERS = {"TRITON_PTXAS_PATH": "ptxas", "TRITON_PTXAS_BLACKWELL_PATH": "ptxas-blackwell"}
_BLACKWELL = (10, 0)


def require_companions(mend: str) -> str:
    """Return which libraries built for torch there are; raise `Fault` with one that does not fit.

    What an image's base brings was built with its torch, and is left out.

    Args:
        mend: What to type for an environment without it.
    """
    own = [it for name in _BUILT_FOR_TORCH if (it := _own(name)) is not None]
    torch_itself = importlib.metadata.distribution("torch")
    for it in own:
        for asks, other in ((it, torch_itself), (torch_itself, it)):
            for wanted in _wanted(asks, other.name):
                if not wanted.specifier.contains(other.version, prereleases=True):
                    raise _misfit(
                        f"{asks.name} {asks.version} wants {wanted.name}{wanted.specifier}, and "
                        f"{other.version} is installed.",
                        mend,
                    )
    if importlib.util.find_spec("torchao"):
        _require_peft_likes_torchao(mend)
    told = ", ".join(it.name for it in own)
    return f"{told} fit torch {torch_itself.version}" if own else "none is installed"


def require_bitsandbytes() -> str:
    """Return which native library bitsandbytes has; raise `Fault` if none, or none for the GPU."""
    from bitsandbytes import cextension  # noqa: PLC0415 - on a GPU it initialises CUDA

    library = cextension.lib
    if isinstance(library, cextension.ErrorHandlerMockBNBNativeLibrary):
        raise Fault(
            f"bitsandbytes {_version('bitsandbytes')} has no native library for "
            f"{_cuda() or 'this CPU'}.",
            "its wheel has none for this version of CUDA, BNB_CUDA_VERSION names one that it has "
            "not, or the file is gone",
            "unset BNB_CUDA_VERSION && python -m bitsandbytes  # 0.50 or newer for CUDA 13",
        )
    if torch.cuda.is_available() and not library.compiled_with_cuda:
        raise Fault(
            f"bitsandbytes {_version('bitsandbytes')} has loaded its library for the CPU alone, "
            f"and torch computes with {_cuda()}.",
            "it was imported where no GPU was to be seen, or its wheel has none for this CUDA",
            "python -m bitsandbytes  # says which it looks for",
        )
    return f"bitsandbytes {_version('bitsandbytes')}, for {_cuda() or 'the CPU'}"


def require_assembler(environ: Mapping[str, str], mend: str) -> str:
    """Return Triton's assemblers; raise `Fault` if one is no program, `NotRun` without Triton."""
    spec = importlib.util.find_spec("triton")
    if spec is None or spec.origin is None:
        raise NotRun("no GPU, and torch for the CPU brings no Triton")
    brought = Path(spec.origin).parent / "backends" / "nvidia" / "bin"
    told = []
    for variable, name in _ASSEMBLERS.items():
        file = Path(environ.get(variable) or brought / name)
        named = bool(environ.get(variable))
        if not named and not file.exists() and not _needed(name, brought):
            continue
        if not file.is_file() or not os.access(file, os.X_OK):
            raise Fault(
                f"Triton's assembler {file} is not there, or is no program.",
                f"{variable} names another place" if named else "the package triton is not whole",
                f"unset {variable}" if named else mend,
            )
        told.append(str(file))
    return ", ".join(told)


def _needed(name: str, brought: Path) -> bool:
    """Tell whether this assembler is missed: older Tritons have one for all GPUs."""
    if name == "ptxas":
        return True
    blackwell = torch.cuda.is_available() and torch.cuda.get_device_capability(0) >= _BLACKWELL
    return blackwell and not (brought / "ptxas").exists()


def _own(name: str) -> importlib.metadata.Distribution | None:
    """Return the distribution of that name, if it is in this environment and not in its base."""
    try:
        it = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    place = os.path.realpath(str(it.locate_file("")))
    return it if Path(place).is_relative_to(os.path.realpath(sys.prefix)) else None


def _wanted(asks: importlib.metadata.Distribution, name: str) -> Iterator[Requirement]:
    """Yield what ``asks`` requires of the distribution ``name``."""
    for text in asks.requires or ():
        wanted = Requirement(text)
        met = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        if met and normal(wanted.name) == normal(name):
            yield wanted


def _require_peft_likes_torchao(mend: str) -> None:
    """Raise `Fault` if PEFT refuses the torchao that is installed: then no LoRA can be made."""
    from peft import import_utils  # noqa: PLC0415 - in memory by then

    asks = import_utils.is_torchao_available
    try:
        getattr(asks, "__wrapped__", asks)()
    except ImportError as error:
        raise _misfit(f"PEFT refuses torchao: {error}.", mend) from error


def _misfit(happened: str, mend: str) -> Fault:
    cause = "it was installed for another purpose, and nothing in the lab needs it"
    return Fault(happened, cause, mend)


def _version(name: str) -> str:
    return importlib.metadata.version(name)


def _cuda() -> str:
    return f"CUDA {torch.version.cuda}" if torch.cuda.is_available() else ""
