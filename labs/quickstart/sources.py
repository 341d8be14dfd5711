"""The model and the data: found, or said what is wrong with the place that was given."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from huggingface_hub import snapshot_download
from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer

from labs import assets
from labs.assets import form
from verify.lab.layout import InImage, here
from verify.lab.problems import Misuse, Problem

_HUB: Final = re.compile(r"[\w.-]+/[\w.-]+")
_MADE_OF: Final = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.bin")


def find_model(given: str | None) -> str:
    """Return the model to take: a folder's absolute path, or a name on the hub.

    Raises:
        Misuse: there is no such folder, or it holds no model.
        Problem: the lab's own model was not made yet.
    """
    place = given or bundled(assets.model)
    folder = Path(place).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise Misuse(
                f"{place} is a folder, but no model: there is no config.json in it.",
                cause="a model's folder is what save_pretrained writes",
                type_this=f"ls {place}",
            )
        return str(folder.resolve())
    if folder.exists() or not _HUB.fullmatch(place) or place.startswith("."):
        raise _no_folder(place, "model")
    return place


def find_data(given: Path | None) -> Path:
    """Return the folder of the data set, or its one file.

    Raises:
        Misuse: there is none.
        Problem: the lab's own data were not made yet.
    """
    place = given or Path(bundled(lambda: assets.data("json-answers")))
    place = place.expanduser()
    if not place.exists():
        raise _no_folder(str(place), "data")
    return place.resolve()


def fetch_weights(model: str) -> None:
    """Fetch a model of the hub, with a bar, unless it is here already.

    Raises:
        Problem: it cannot be had.
    """
    if not Path(model).is_dir():
        enable_progress_bars()
        with explained(model):
            snapshot_download(model, allow_patterns=list(_MADE_OF[:2]))


def read_config(model: str) -> Any:
    """Return the model's config. Nothing of its code is run.

    Raises:
        Problem: it cannot be had, or is no causal language model's.
    """
    disable_progress_bars()  # its files are small
    with explained(model):
        return AutoConfig.from_pretrained(model)


def read_tokenizer(model: str) -> tuple[Any, list[str]]:
    """Return the tokenizer, fit for use, and what had to be settled for it, as sentences."""
    with explained(model):
        tokenizer: Any = AutoTokenizer.from_pretrained(model)
    settled = []
    if not tokenizer.is_fast or tokenizer.eos_token is None:
        raise Misuse(
            "The model's tokenizer cannot say where the answer begins, or how it ends.",
            cause="it is not one of the tokenizers library, or has no end token",
            type_this="invoke quickstart  # with another model",
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
        settled.append(
            f"It has no token for padding: {tokenizer.eos_token} is used. Labels are set by place, "
            "so the end of an answer is learned all the same."
        )
    if not tokenizer.chat_template:
        begins = tokenizer.bos_token and tokenizer("a").input_ids[0] == tokenizer.bos_token_id
        tokenizer.chat_template = ("{{ bos_token }}" if begins else "") + form.CHAT_TEMPLATE
        settled.append(
            "It has no chat template (a base model): it is given the plain form "
            "`### Instruction: ... ### Response: ...`, saved with the adapter."
        )
    return tokenizer, settled


def fingerprint(place: str) -> str:
    """Return what tells another state of the same place: a hash of names, sizes and small files."""
    folder = Path(place)
    if not folder.exists():
        return ""  # a model of the hub
    digest = hashlib.sha256()
    files = (
        [folder]
        if folder.is_file()
        else sorted({it for p in ("*.jsonl", *_MADE_OF) for it in folder.glob(p)})
    )
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\n".encode())
        if file.suffix != ".safetensors" or size < 2**26:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def bundled(find: Callable[[], str]) -> str:
    """Return the place of something that the lab brings along.

    Raises:
        Problem: it was not made yet.
    """
    try:
        return find()
    except assets.NotMade as missing:
        happened, *more = str(missing).splitlines()
        cause, command = (line.partition(": ")[2] for line in more)
        raise Problem(happened, cause=cause, type_this=command) from missing


@contextlib.contextmanager
def explained(model: str) -> Iterator[None]:
    """Turn what the libraries raise where ``model`` cannot be read into a `Problem`."""
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        raise _explain(model, error) from error


def _explain(model: str, error: Exception) -> Problem:
    told = str(error).strip().splitlines()[0]
    if Path(model).is_dir():
        return Misuse(
            f"The model in {model} cannot be read: {told}",
            cause="a file of it is missing or broken, or it is newer than this Transformers",
            type_this=f"ls {model}",
        )
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE", "YES", "ON"):
        return Misuse(
            f"{model} is not on this machine, and HF_HUB_OFFLINE=1 forbids asking the hub for it.",
            cause="in the lab nothing is downloaded unless you say so",
            type_this=f"HF_HUB_OFFLINE=0 invoke quickstart --model {model}",
        )
    return Problem(
        f"{model} cannot be fetched from the hub: {told}",
        cause="a mistyped folder; or no network, no such model, or one that is gated: log in first",
        type_this=f"hf download {model}  # says more; then the same command again",
    )


def _no_folder(place: str, what: str) -> Misuse:
    inside = isinstance(here(), InImage)
    seen = f"; this container sees nothing of the host but {here().workspace}" if inside else ""
    return Misuse(
        f"There is no {what} in {place}.",
        cause=f"the path is mistyped, or relative to another folder{seen}",
        type_this=f"ls -d {place}",
    )
