"""The lab's virtual environment: made from the lock files, mended after an interruption."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from verify.lab import diagnosis, interpreter, locks, progress
from verify.lab.pip import Pip, find_pip
from verify.lab.problems import Problem

if TYPE_CHECKING:
    from verify.lab.layout import Layout
    from verify.lab.locks import Stamp, Variant
    from verify.lab.steps import Steps

_PROJECT_FILE = "finetune-lab.pth"  # a line in it is a folder on sys.path, with `python -I` too


def is_ready(layout: Layout, *, tests: bool = False) -> bool:
    """Return whether the environment is whole and as the lock files now say."""
    python = _version(layout.python)
    stamp = locks.read_stamp(_made_from(layout))
    if python is None or stamp is None:
        return False
    wanted = locks.wanted_stamp(layout, locks.find_variant(layout), python, tests=tests)
    return _same_place(stamp, wanted) and not stamp.lacks(wanted)


def make(layout: Layout, steps: Steps, *, tests: bool = False) -> str:
    """Make the environment, or what is missing of it; return what it is, as one line.

    Interrupted at any point, the next call goes on: the stamp is written when all is there.

    Args:
        layout: Where.
        steps: Where progress is shown.
        tests: Whether the test libraries are needed as well.

    Raises:
        Problem: no index, no disk, a wrong file, a wrong Python, and the like.
    """
    variant = locks.find_variant(layout)
    if not is_ready(layout, tests=tests):
        if _is_to_be_made_anew(layout, variant):
            _begin(layout, steps, variant)
        _mend(_site(layout))
        _install(layout, steps, variant, tests=tests)
    count = sum(len(locks.packages(layout.locks / n)) for n in (variant.torch_lock, locks.LAB))
    python = _version(layout.python)
    return (
        f"Environment: Python {python}, torch for {variant.name} ({variant.why}), {count} packages"
    )


def _is_to_be_made_anew(layout: Layout, variant: Variant) -> bool:
    """Return whether nothing there can be kept: not whole enough, or made from other locks.

    An environment is never changed from one set of locks to another, or two machines with the
    same locks could differ in what is left over. The test libraries come on top.
    """
    python = _version(layout.python)
    if python is None:
        return True
    wanted = locks.wanted_stamp(layout, variant, python, tests=False)
    if stamp := locks.read_stamp(_made_from(layout)):
        return not _same_place(stamp, wanted) or bool(stamp.lacks(wanted))
    return locks.read_stamp(_to_be_made_from(layout)) != wanted


def _begin(layout: Layout, steps: Steps, variant: Variant) -> None:
    """Make an empty environment and note from what it is going to be made."""
    choice = interpreter.choose()
    if choice.remark:
        steps.say(f"  {choice.remark}")
    if layout.venv.exists():
        _require_outside(layout.venv)
        shutil.rmtree(layout.venv)
    free = shutil.disk_usage(layout.state).free
    if free < variant.bytes_needed:
        raise diagnosis.too_little_space(free, variant.bytes_needed, layout.state)
    python = choice.interpreter
    command = [str(python.executable), "-I", "-m", "venv", "--without-pip", str(layout.venv)]
    made = subprocess.run(command, capture_output=True, text=True, check=False, umask=0o022)  # noqa: S603
    if made.returncode:
        raise diagnosis.no_environment(made.stderr, layout.venv)
    wanted = locks.wanted_stamp(layout, variant, python.version, tests=False)
    locks.write_stamp(_to_be_made_from(layout), wanted)


def _require_outside(venv: Path) -> None:
    if Path(sys.prefix).resolve() == venv.resolve():
        raise Problem(
            "The lab's libraries are to be replaced, and this command runs on them.",
            cause="it was typed in JupyterLab's terminal after the project was updated",
            type_this="invoke lab.up  # in a terminal outside JupyterLab",
        )


def _install(layout: Layout, steps: Steps, variant: Variant, *, tests: bool) -> None:
    """Install the lock files that are missing, put the project on the path, write the stamp."""
    python = _version(layout.python)
    assert python is not None
    wanted = locks.wanted_stamp(layout, variant, python, tests=tests)
    stamp = locks.read_stamp(_made_from(layout))
    pip = find_pip(layout.python)
    for name in stamp.lacks(wanted) if stamp else wanted.locks:
        _install_lock(layout, steps, pip, name)
    (_site(layout) / _PROJECT_FILE).write_text(f"{layout.root.resolve()}\n")
    kept = stamp.locks if stamp else {}
    made = dataclasses.replace(wanted, locks={**kept, **wanted.locks})
    locks.write_stamp(_made_from(layout), made)


def _install_lock(layout: Layout, steps: Steps, pip: Pip, name: str) -> None:
    """Install one lock file; the CPU build of torch also from its own index."""
    lock = layout.locks / name
    total = len(locks.packages(lock))
    # torch's own dependencies are in lab.lock, which comes after it.
    options = ["--no-deps"] if name.startswith("torch-") else []
    site = _site(layout)
    with progress.shown(steps, f"installing {name}", progress.Installation(total, site)) as hear:
        outcome = pip.install(lock, layout.install_log, hear, *options)
    if outcome.code and name == "torch-cpu.lock" and diagnosis.no_match(outcome):
        title = f"{name} is not on this machine's index: from {locks.CPU_INDEX}"
        with progress.shown(steps, title, progress.Installation(total, site)) as hear:
            first, elsewhere = outcome, ["--index-url", locks.CPU_INDEX]
            outcome = pip.install(lock, layout.install_log, hear, *options, *elsewhere)
        if outcome.code:
            raise diagnosis.no_cpu_torch(first, outcome, lock, layout.install_log)
    if outcome.code:
        raise diagnosis.diagnose(outcome, lock, layout.install_log)


def _mend(site: Path) -> None:
    """Forget packages that were being written when an installation was killed.

    pip writes RECORD last; without it the package would count as installed
    (https://packaging.python.org/en/latest/specifications/recording-installed-packages/).
    """
    for folder in site.glob("*.dist-info"):
        if not (folder / "RECORD").exists():
            shutil.rmtree(folder)


def _same_place(stamp: Stamp, wanted: Stamp) -> bool:
    fields = ("venv", "python", "variant")
    return all(getattr(stamp, field) == getattr(wanted, field) for field in fields)


def _version(python: Path) -> str | None:
    """Return the version of the environment's Python, or None when it does not run."""
    answer = interpreter.ask(python)
    return answer.version if answer else None


def _site(layout: Layout) -> Path:
    python = _version(layout.python)
    return layout.venv / "lib" / f"python{python}" / "site-packages"


def _made_from(layout: Layout) -> Path:
    return layout.venv / "made-from.json"


def _to_be_made_from(layout: Layout) -> Path:
    return layout.venv / "to-be-made-from.json"
