"""A plan's numbers, as ``--json`` writes them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Final

from labs.memory_plan import parts
from labs.memory_plan.measuring import Measured
from labs.memory_plan.models import Model
from labs.memory_plan.room import Room
from labs.quickstart import fit, held
from labs.quickstart.memory import MOMENTS, Prediction
from labs.quickstart.plan import Plan
from verify.lab.problems import Problem

SCHEMA: Final = 1


def record(
    model: Model, plan: Plan, prediction: Prediction, space: Room, measured: Measured | None
) -> dict[str, Any]:
    """Return the numbers for JSON: sizes in bytes, the error as a share of what was measured."""
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "model": model.name,
        "parameters": model.shape.parameters,
        "trained": held.trained_parameters(model.shape, plan),
        "plan": dataclasses.asdict(plan),
        "parts": {it.name: {"whole": it.whole, "formula": it.formula, **it.moments}
                  for it in parts.parts(model.shape, plan)},
        "before_activations": parts.before_activations(model.shape, plan),
        "moments": {it: prediction.total(it) for it in MOMENTS},
        "peak": prediction.peak,
        "peak_at": prediction.peak_at,
        "margin": fit.MARGIN,
        "free": space.free.bytes,
        "free_by": space.free.source,
        "floor": space.floor,
        "fits": fit.fits(prediction, space.usable),
        "measured": None,
    }  # fmt: skip
    if measured is not None:
        error = prediction.peak / measured.peak - 1
        found["measured"] = dataclasses.asdict(measured) | {"peak": measured.peak, "error": error}
    return found


def write(file: Path, found: dict[str, Any]) -> None:
    """Write a record to ``file``.

    Raises:
        Problem: it cannot be written.
    """
    try:
        file.expanduser().write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise Problem(
            f"{file} cannot be written: {error.strerror}.",
            cause="its folder is not there, belongs to another user, or the disk is full",
            type_this="the same with --json ~/plan.json",
        ) from error
