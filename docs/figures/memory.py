"""The memory lesson's figure: what four ways of fine-tuning a 7B model take, part by part."""

from __future__ import annotations

from drawing import BLUE, GREEN, ORANGE, PURPLE, save, solution
from matplotlib import pyplot as plt

PARAMETERS = 7 * 10**9
ADAPTERS = 16 * 32 * 4 * (4096 + 4096)  # rank * layers * (q, k, v, o) * (in + out)
NF4 = 4.127
PARTS = {
    "weights": BLUE,
    "gradients": ORANGE,
    "optimizer state": GREEN,
    "master copy": PURPLE,
}
WAYS: dict[str, tuple[int, tuple[float, float, float, float]]] = {
    "full, everything bf16": (PARAMETERS, (16, 16, 32, 0)),
    "full, mixed precision": (PARAMETERS, (16, 16, 64, 32)),
    "LoRA, rank 16": (ADAPTERS, (16, 16, 64, 32)),
    "QLoRA, rank 16": (ADAPTERS, (NF4, 16, 64, 32)),
}
"""What is trained, and the bits of weight, gradient, optimizer state and master copy."""


def main() -> None:
    """Draw it."""
    training_bytes = solution("memory").training_bytes
    figure, axes = plt.subplots(figsize=(7.0, 2.8))
    for row, (way, (trained, bits)) in enumerate(WAYS.items()):
        left = 0.0
        for number, (part, colour) in enumerate(PARTS.items()):
            alone = [bit if i == number else 0 for i, bit in enumerate(bits)]
            size = training_bytes(PARAMETERS, trained, *alone) / 1e9
            label = part if way == "full, mixed precision" else None  # where all four can be seen
            axes.barh(row, size, left=left, color=colour, label=label)
            left += size
        total = training_bytes(PARAMETERS, trained, *bits) / 1e9
        axes.text(left + 1, row, f"{total:.1f} GB", va="center")
    axes.set_yticks(range(len(WAYS)), list(WAYS))
    axes.invert_yaxis()
    axes.set_xlim(0, 132)
    axes.set_xlabel("GB before activations, for 7 billion parameters")
    axes.legend(loc="lower right")
    save(figure, "labs/memory/bytes.svg")


if __name__ == "__main__":
    main()
