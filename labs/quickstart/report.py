"""What a run ended with: the record as JSON, and the last lines on the screen."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

from labs.quickstart import fit
from verify.lab.steps import Steps

SCHEMA: Final = 1
FELL, DID_NOT_FALL = 0, 1


def has_fallen(report: dict[str, Any]) -> bool:
    """Return whether the loss on held-out rows is lower than it was; no number is not lower."""
    before, after = report["loss"]["before"], report["loss"]["after"]
    return math.isfinite(after) and after < before


def code(report: dict[str, Any]) -> int:
    """Return the exit code."""
    return FELL if has_fallen(report) else DID_NOT_FALL


def show(report: dict[str, Any], steps: Steps, where: str) -> None:
    """Print the last lines: loss, memory, speed, adapter, and what to do next."""
    loss, memory, adapter = report["loss"], report["memory"], report["adapter"]
    before, after = loss["before"], loss["after"]
    if has_fallen(report):
        steps.ticked(
            f"Loss on {report['rows']['held_out']} held-out rows: {before:.3f} before, "
            f"{after:.3f} after {report['steps']} steps, {1 - after / before:.0%} lower"
        )
    if memory["measured"]:
        steps.ticked(
            f"Memory of a step with {memory['rows']} x {memory['tokens']} tokens: "
            f"{fit.size(memory['predicted'])} predicted, {fit.size(memory['measured'])} measured "
            f"({memory['measured_by']}), ratio {memory['ratio']:.2f}"
        )
    if report["tokens_per_second"]:
        steps.ticked(f"Speed: {report['tokens_per_second']:,.0f} tokens/s, padding not counted")
    steps.ticked(
        f"Adapter: {fit.size(adapter['bytes'])} in {where}/adapter; loaded again it is the same: "
        f"{adapter['tensors']} tensors equal, logits differ by {adapter['difference']:g}"
    )
    steps.say(f"Look at {where}/loss.png; all numbers are in {where}/report.json.")
    if not has_fallen(report):
        steps.say("")
        steps.say(_did_not_fall(report))


def _did_not_fall(report: dict[str, Any]) -> str:
    before, after = report["loss"]["before"], report["loss"]["after"]
    rate = report["settings"]["learning_rate"]
    return (
        f"The loss on held-out rows did not fall: {before:.3f} before, {after:.3f} after.\n"
        "Likely cause: the learning rate is too high (or far too low), or what the held-out rows "
        "ask for is not in the rows trained on\n"
        f"Type: invoke quickstart --learning-rate {rate / 5:g}"
    )


def folder_size(folder: Path) -> int:
    """Return the bytes of the adapter's weights in ``folder``."""
    return sum(file.stat().st_size for file in folder.glob("adapter_model.*"))
