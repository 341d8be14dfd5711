"""What the lab brings along, so that nothing is downloaded: a small model, tokenizers, data.

Every function returns the path of a folder, ready for ``from_pretrained`` or ``load_dataset``:

    from labs import assets
    model = AutoModelForCausalLM.from_pretrained(assets.model())
    data = load_dataset(assets.data())

``python -m labs.assets`` makes them (`invoke lab.up` does it by itself); README.md says what they
are. Nothing but the standard library is imported here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from verify.lab import layout

__all__ = ["DATA", "FAMILIES", "TOKENIZERS", "NotMade", "data", "folder", "model",
           "random_model", "tokenizer"]  # fmt: skip

DATA: Final = ("instructions", "json-answers")
"""The data sets; the first is the one that the model was trained on."""
TOKENIZERS: Final = ("pad", "no-pad")
FAMILIES: Final = ("llama", "mistral", "qwen2", "phi3")
"""The architectures that `random_model` has."""


class NotMade(FileNotFoundError):
    """The assets are not there; the message says what to type."""


def model() -> str:
    """Return the trained model: a small Llama in bfloat16, with its tokenizer.

    The variable LAB_MODEL names another one instead: a folder, or a model of the hub.

    Raises:
        NotMade: it was not made yet.
    """
    return os.environ.get("LAB_MODEL") or _made("model")


def data(name: str = "instructions") -> str:
    """Return the folder with ``train.jsonl`` and ``test.jsonl`` of a data set.

    Its columns are ``instruction``, ``input``, ``output`` and ``text``, the three in one. The
    variable LAB_DATA names another folder instead of that of ``instructions``.

    Raises:
        ValueError: there is no data set ``name``.
        NotMade: it was not made yet.
    """
    _require(name, DATA, "data set")
    own = os.environ.get("LAB_DATA") if name == DATA[0] else None
    return own or _made(f"data/{name}")


def tokenizer(kind: str) -> str:
    """Return a tokenizer: with a token for padding (``"pad"``), or the same without (``"no-pad"``).

    Raises:
        ValueError: there is no such ``kind``.
        NotMade: it was not made yet.
    """
    return _made(f"tokenizer/{_require(kind, TOKENIZERS, 'tokenizer')}")


def random_model(family: str) -> str:
    """Return an untrained model (float32) of ``"llama"``, ``"mistral"``, ``"qwen2"`` or ``"phi3"``.

    Its tokenizer, without a token for padding, is with it.

    Raises:
        ValueError: there is no such ``family``.
        NotMade: it was not made yet.
    """
    return _made(f"random/{_require(family, FAMILIES, 'random model')}")


def folder() -> Path:
    """Return where all of it lies, made or not: the variable LAB_ASSETS, or the lab's own place."""
    named = os.environ.get("LAB_ASSETS")
    return Path(named).absolute() if named else layout.here().assets


def _made(part: str) -> str:
    path = folder() / part
    if not path.is_dir():
        raise NotMade(
            f"There is no {path}.\n"
            "Likely cause: the model and the data that the lab brings along were not made yet.\n"
            "Type: python -m labs.assets"
        )
    return str(path)


def _require(name: str, known: tuple[str, ...], what: str) -> str:
    if name not in known:
        raise ValueError(f"There is no {what} `{name}`. There are: {', '.join(known)}.")
    return name
