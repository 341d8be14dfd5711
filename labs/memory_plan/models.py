"""The model to plan for: its config, wherever it is. No weight is read, and nothing is fetched.

`shapes/` has the sizes of well-known models, as their publishers' config.json files tell them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any, Final

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING

from labs import assets
from labs.quickstart import shape, sources
from labs.quickstart.shape import Shape
from verify.lab.problems import Misuse, Problem

SHAPES: Final = Path(__file__).parent / "shapes"
_HUB: Final = re.compile(r"[\w.-]+/[\w.-]+")
_UNFIT: Final = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError,
                 StrictDataclassError)  # fmt: skip
"""What the libraries raise for a config that makes no sense."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A model that is known by its config.

    Attributes:
        name: As it was given.
        config: As Transformers has it.
        shape: What it adds up to.
    """

    name: str
    config: Any
    shape: Shape

    @property
    def longest(self) -> int | None:
        """How many tokens a row may have, where the config says so."""
        longest: int | None = getattr(self.config, "max_position_embeddings", None)
        return longest


def names() -> list[str]:
    """Return the names of the bundled shapes."""
    return sorted(file.stem for file in SHAPES.glob("*.json"))


def find(given: str | None) -> Model:
    """Return the model that ``given`` names; without it the small one that is bundled.

    Args:
        given: A folder with a config.json, such a file, a bundled shape, or a name on the hub.

    Raises:
        Misuse: there is no such place, or what is there is no config of a known kind.
        Problem: the bundled model was not made yet.
    """
    name = given or sources.bundled(assets.model)
    return build(name, _read(_file(name)))


def build(name: str, told: dict[str, Any]) -> Model:
    """Return the model of the config ``told``.

    Raises:
        Misuse: it is of no known kind, or makes no sense.
    """
    kind = told.get("model_type")
    if kind not in shape.KNOWN:
        raise Misuse(
            f"{name} is a model of type {kind}, and memory is counted for these types alone: "
            f"{', '.join(shape.KNOWN)}.",
            cause="another architecture keeps other things for backward: a sum would be a guess",
            type_this="invoke memory.plan --model llama-8b  # or another near to it in size",
        )
    try:
        config = CONFIG_MAPPING[kind].from_dict(told)
        return Model(name, config, shape.read(config))
    except _UNFIT as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _broken(name, reason) from error


def _file(name: str) -> Path:
    """Return the config.json that ``name`` leads to."""
    place = Path(name).expanduser()
    if place.is_dir():
        if (place / "config.json").is_file():
            return place / "config.json"
        raise Misuse(
            f"{name} is a folder, but no model: there is no config.json in it.",
            cause="a model's folder is what save_pretrained writes",
            type_this=f"ls {name}",
        )
    if place.is_file():
        return place
    if name in names():
        return SHAPES / f"{name}.json"
    if _HUB.fullmatch(name) and not name.startswith("."):
        return _of_the_hub(name)
    raise Misuse(
        f"There is no model in {name}.",
        cause="the path is mistyped; or a shape's name is: there are " + ", ".join(names()),
        type_this=f"ls -d {name}  # or one of these shapes: invoke memory.plan --model llama-8b",
    )


def _of_the_hub(name: str) -> Path:
    """Return the config of a model of the hub that is on this machine, or may be fetched."""
    found = try_to_load_from_cache(name, "config.json")
    if isinstance(found, str):
        return Path(found)
    if os.environ.get("HF_HUB_OFFLINE", "1").upper() in ("1", "TRUE", "YES", "ON"):
        raise Misuse(
            f"{name} is no folder, and no model of the hub that is on this machine.",
            cause="the path is mistyped; or it was never fetched, and nothing is unless you say so",
            type_this=f"HF_HUB_OFFLINE=0 invoke memory.plan --model {name}  # fetches its config",
        )
    try:
        return Path(hf_hub_download(name, "config.json"))
    except (OSError, ValueError) as error:
        told = str(error).strip().splitlines()[0]
        raise Problem(
            f"The config of {name} cannot be fetched from the hub: {told}",
            cause="no network, no such model, or one that is gated: log in first",
            type_this=f"hf download {name} config.json  # says more; then the same command again",
        ) from error


def _read(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _broken(str(file), str(error)) from error
    if not isinstance(told, dict):
        raise _broken(str(file), "it holds no names and values")
    return told


def _broken(name: str, reason: str) -> Misuse:
    place = name if Path(name).is_file() else f"{name}/config.json"
    return Misuse(
        f"The config of {name} describes no model: {reason}",
        cause="the file is another program's, was cut, or was changed by hand",
        type_this=f"python -m json.tool {place}",
    )
