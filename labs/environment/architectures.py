"""Whether torch has machine code that this GPU runs.

https://docs.nvidia.com/cuda/cuda-c-programming-guide/#application-compatibility and
#architecture-specific-features: code for X.y runs on X.z with z >= y, so 12.1 (GB10) runs what was
compiled for 12.0, and 10.3 (B300) what was for 10.0. PTX is compiled for any later GPU when it is
loaded. With an ``a`` either runs on that very GPU alone, with an ``f`` within its family.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from verify.machine import Fault

_NAMED = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")


def require_code(compiled: Sequence[str], capability: tuple[int, int], build: str) -> str:
    """Return which of ``compiled`` the GPU runs; raise `Fault` if none.

    Args:
        compiled: What torch was compiled for, as `torch.cuda.get_arch_list` says it.
        capability: The GPU's compute capability.
        build: Torch's version.
    """
    told = f"compute capability {capability[0]}.{capability[1]}"
    fitting = [name for name in compiled if runs(name, capability)]
    if not fitting:
        raise Fault(
            f"torch {build} has no code for this GPU ({told}), only {' '.join(compiled)}.",
            "it was built before this GPU came out, or without what has become old",
            "invoke lab.down && rm -rf .lab/venv && invoke lab.up  # a container: image.build",
        )
    return f"{told} runs {fitting[-1]}"


def runs(name: str, capability: tuple[int, int]) -> bool:
    """Tell whether a GPU of ``capability`` runs code of that name (``sm_90a``)."""
    found = _NAMED.fullmatch(name)
    if found is None:
        return False
    kind, major, minor, suffix = found[1], int(found[2]), int(found[3]), found[4]
    if suffix == "a":
        return (major, minor) == capability
    if kind == "compute" and not suffix:
        return (major, minor) <= capability
    return major == capability[0] and minor <= capability[1]
