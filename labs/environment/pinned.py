"""What the GPU image pins for bfloat16 and Blackwell, read where it takes effect: in a job."""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from packaging.version import Version

from verify.lab.layout import Layout
from verify.machine import Fault
from verify.manifest import Manifest, read
from verify.trial import NotRun

# images/gpu/Dockerfile says why each has its value.
_VALUES = {
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "LAB_DTYPE": "bfloat16",
    "LAB_ATTENTION": "sdpa",
}
_ALLOCATOR = "PYTORCH_ALLOC_CONF"
_ASSEMBLER = "TRITON_PTXAS_BLACKWELL_PATH"
_UNDOING = {
    "PYTORCH_CUDA_ALLOC_CONF": f"it is the older name of {_ALLOCATOR}; of the two one must go",
    "BNB_CUDA_VERSION": "it turns off bitsandbytes' own choice of a library for this CUDA",
}
_BITSANDBYTES = Version("0.50")  # the first that finds a library for CUDA 13.x by itself
_AS_BUILT = "invoke lab.down && invoke image.build --variant gpu && invoke lab.up --variant gpu"


def gpu_image(layout: Layout) -> Manifest:
    """Return the manifest of the GPU image that this is; raise `NotRun` where it is not one."""
    if layout.manifest.exists() and (found := read(layout.manifest)).variant == "gpu":
        return found
    raise NotRun("not the GPU image")


def require_settings(image: Manifest, environ: Mapping[str, str]) -> str:
    """Return the settings; raise `Fault` with the first that is not as the image pins it."""
    for name, value in (_VALUES | image.settings).items():
        if environ.get(name) != value:
            found = environ.get(name) or "not set"
            raise _changed(f"{name} is {found}; this image pins {value}.")
    for name in (_ALLOCATOR, _ASSEMBLER):
        if not environ.get(name):
            raise _changed(f"{name} is not set.")
    assembler = environ[_ASSEMBLER]
    if not os.access(assembler, os.X_OK) or not Path(assembler).is_file():
        raise _changed(f"{assembler} ({_ASSEMBLER}) is no program.")
    for name, why in _UNDOING.items():
        if environ.get(name):
            raise _changed(f"{name} is set to {environ[name]}: {why}.")
    found = importlib.metadata.version("bitsandbytes")
    if Version(found) < _BITSANDBYTES:
        raise _changed(f"bitsandbytes is {found}; Blackwell needs {_BITSANDBYTES} or newer.")
    return f"{', '.join(f'{name}={environ[name]}' for name in _VALUES)}, bitsandbytes {found}"


def load_model(environ: Mapping[str, str]) -> str:
    """Return what a small model has that was saved and loaded with the settings.

    Raises:
        Fault: it is of another data type, or attends in another way.
    """
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415 - in memory by then

    dtype, attention = environ.get("LAB_DTYPE", ""), environ.get("LAB_ATTENTION", "")
    wanted = getattr(torch, dtype, None)
    if not isinstance(wanted, torch.dtype) or not wanted.is_floating_point:
        raise _changed(f"No model can be loaded with LAB_DTYPE={dtype}: it is no such type.")
    tiny = LlamaConfig(
        vocab_size=16, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="environment-") as folder:
        LlamaForCausalLM(tiny).save_pretrained(folder)
        try:
            model = LlamaForCausalLM.from_pretrained(
                folder, dtype=wanted, attn_implementation=attention
            )
        except (ValueError, ImportError, OSError) as error:
            first = next(iter(str(error).splitlines()), "")
            raise _changed(
                f"No model can be loaded with LAB_ATTENTION={attention}: {first}"
            ) from error
    found = {parameter.dtype for parameter in model.parameters()}
    attends = model.config._attn_implementation
    if found != {wanted} or attends != attention:
        types = ", ".join(sorted(map(str, found)))
        raise _changed(
            f"A model loaded with {dtype} and {attention} came back with {types} and {attends}."
        )
    return f"{dtype}, {attends}"


def _changed(happened: str) -> Fault:
    return Fault(happened, "the image was changed, or the container started with others", _AS_BUILT)
