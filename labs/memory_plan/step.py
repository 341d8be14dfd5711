"""A real training step, measured: ``python -m labs.memory_plan.step`` in a process of its own.

It reads a config and a plan as JSON, and writes the peaks as JSON. The second of two steps is
measured: it is the first that has the optimizer's state.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import torch
from peft.helpers import disable_input_dtype_casting
from torch import Tensor
from transformers import CONFIG_MAPPING

from labs.memory_plan import building
from labs.quickstart import measure, optimizers
from labs.quickstart.measure import Meter
from labs.quickstart.memory import Moment
from labs.quickstart.plan import Plan
from labs.quickstart.settings import settle

OUT_OF_MEMORY: Final = 9
"""The exit code when the device's memory ran out."""


def measured(config: Any, plan: Plan, where: torch.device) -> dict[str, Any]:
    """Return the peak of each moment of a step in bytes, and what measured them."""
    model = building.build(config, plan, where)
    trained = [it for it in model.parameters() if it.requires_grad]
    optimizer = optimizers.make(plan.optimizer, trained)
    ids = torch.randint(0, config.vocab_size, (plan.batch, plan.length), device=where)
    mixed = plan.precision == "mixed"
    with disable_input_dtype_casting(model, plan.method != "full" and mixed):
        _step(model, optimizer, ids, plan, None)
        meter = measure.meter(model, optimizer, where)
        meter.begin()
        moments = _step(model, optimizer, ids, plan, meter)
        meter.end()
    return {"moments": moments, "source": meter.source}


def _step(
    model: Any, optimizer: torch.optim.Optimizer, ids: Tensor, plan: Plan, meter: Meter | None
) -> dict[Moment, int]:
    """Take a step; return its peaks: until the logits' gradient is gone, after, at the update."""
    peaks: dict[Moment, int] = {"loss": 0, "backward": 0, "update": 0}

    def lap(moment: Moment) -> None:
        if meter is not None:
            peaks[moment] = max(peaks[moment], meter.lap())

    def watch(_module: Any, _given: Any, made: Any) -> None:
        made.last_hidden_state.register_hook(lambda _: lap("loss"))

    for _ in range(min(plan.accumulate, 2)):  # what a third one adds is what the second did
        hook = model.get_decoder().register_forward_hook(watch)
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=plan.precision == "mixed"):
            loss = model(input_ids=ids, labels=ids)["loss"]
        hook.remove()
        loss.backward()
        del loss
        lap("backward")
    optimizer.step()
    lap("update")
    optimizer.zero_grad()
    return peaks


def main() -> int:
    """Measure what standard input asks for."""
    settle()
    told = json.load(sys.stdin)
    config = CONFIG_MAPPING[told["config"]["model_type"]].from_dict(told["config"])
    try:
        found = measured(config, Plan(**told["plan"]), torch.device(told["device"]))
    except torch.cuda.OutOfMemoryError:
        return OUT_OF_MEMORY
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
