"""The host's half of the plan: where it runs, and what it is told."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from labs.memory_plan import options
from tests.conftest import PROJECT
from tests.lab.conftest import Said
from tests.lab.test_quickstart import container, made, nothing_runs  # noqa: F401 - fixtures
from tests.lab.test_tasks import invoke
from verify.lab import memory_plan
from verify.lab.layout import Layout
from verify.lab.problems import Misuse


def test_without_containers_it_runs_in_the_local_environment(
    made: Layout,  # noqa: F811
    said: Said,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert memory_plan.run(made, said, {"model": "llama-8b", "batch": "2"}, ["--measure"]) == 4
    told = "-I -m labs.memory_plan --model=llama-8b --batch=2 --measure"
    assert capfd.readouterr().out.strip() == told


@pytest.mark.parametrize("name", ["llama-8b", "Qwen/Qwen3-8B"])
def test_a_name_is_handed_on_to_a_container(
    layout: Layout,
    said: Said,
    container: Any,  # noqa: F811
    name: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    flags = {"model": name, "json": str(layout.workspace / "plan.json")}
    assert memory_plan.run(layout, said, flags) == 4
    told = f"-I -m labs.memory_plan --model={name} --json=/workspace/plan.json"
    assert capfd.readouterr().out.strip() == told


@pytest.mark.parametrize("flag", ["model", "json"])
def test_a_place_that_the_container_does_not_see_is_refused(
    layout: Layout,
    said: Said,
    container: Any,  # noqa: F811
    flag: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(Misuse, match="does not see") as told:
        memory_plan.run(layout, said, {flag: str(tmp_path / "mine")})
    assert f"invoke memory.plan --{flag} {layout.workspace}" in told.value.type_this


def test_every_flag_of_the_menu_is_one_of_the_programs() -> None:
    shown = invoke("--help", "memory.plan").stdout
    by_invoke = set(re.findall(r"^  --(?:\[no-\])?([\w-]+)", shown, re.MULTILINE))
    by_itself = {word[2:] for it in options.parser()._actions for word in it.option_strings}
    assert by_invoke - {"color"} == by_itself - {"h", "help", "no-color"} - {""}


def test_the_menu_hands_every_flag_on(tmp_path: Path) -> None:
    shutil.copy(PROJECT / "tasks.py", tmp_path)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "verify", tmp_path / "verify", ignore=ignored)
    stub = "def run(layout, steps, flags, switches):\n    print(flags, switches)\n    return 1\n"
    (tmp_path / "verify" / "lab" / "memory_plan.py").write_text(stub)
    words = {"model": "m", "method": "full", "batch": "2", "length": "3", "json": "f"}
    words |= {"accumulate": "4", "rank": "5", "targets": "attention", "dtype": "float32"}
    words["optimizer"] = "sgd"
    switches = ["--mixed", "--checkpointing", "--measure", "--no-color"]
    given = [word for name, value in words.items() for word in (f"--{name}", value)]
    ended = invoke("memory.plan", *given, *switches, folder=tmp_path)
    assert ended.returncode == 1, ended.stderr
    assert ended.stdout.strip() == f"{words} {switches}"
    assert invoke("memory.plan", folder=tmp_path).stdout.strip() == "{} []"
