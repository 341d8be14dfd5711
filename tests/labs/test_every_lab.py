"""What every lab must be: proven able to fail and to pass, with a hint for each known mistake.

Nothing here names a skill; what a lab must hold besides is in the test of its own name.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT, Runner
from verify.authoring import Check, Misconception
from verify.compare import same
from verify.extract import Source
from verify.judging import PARTS, Bench
from verify.labs import Lab, find_labs
from verify.machine import ENVIRONMENT, advice
from verify.plain import Plain
from verify.trial import Failure, Trial

ALL = find_labs(PROJECT / "labs")
LABS = [lab for lab in ALL if lab.exercise]
MACHINES = [lab for lab in ALL if not lab.exercise]
SEEDS = range(20)
FILES = {"README.md", "exercise.py", "lab.toml", *(f"{part}.py" for part in PARTS)}


@pytest.fixture(scope="module", params=LABS, ids=lambda lab: lab.skill)
def lab(request: pytest.FixtureRequest) -> Lab:
    found = request.param
    assert isinstance(found, Lab)
    return found


@pytest.fixture(scope="module")
def bench(lab: Lab) -> Bench:
    return Bench(lab)


@pytest.fixture(scope="module", params=MACHINES, ids=lambda lab: lab.skill)
def machine(request: pytest.FixtureRequest) -> Lab:
    """A lab without an exercise; that each of its checks can fail is in the test of its name."""
    found = request.param
    assert isinstance(found, Lab)
    return found


def test_there_are_labs() -> None:
    assert LABS
    assert MACHINES


def test_the_folder_holds_what_a_lab_is_and_no_stray_file(lab: Lab) -> None:
    found = {file.name for file in lab.folder.iterdir() if file.name != "__pycache__"}
    assert found >= FILES
    assert all(name.endswith((".png", ".svg")) for name in found - FILES), found - FILES


def test_the_solution_passes(bench: Bench) -> None:
    for check, seed in itertools.product(bench.checks, SEEDS):
        verdict = bench.judge(check, bench.rehearse(), seed)
        allowed = {"passed", "not_run"} if check.gpu else {"passed"}
        assert verdict.status in allowed, (check.name, seed, verdict)


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a check observed of a misconception, and whether it failed it."""

    wrong: Misconception
    observations: list[Plain]
    failed: bool


@pytest.fixture(scope="module")
def seen(bench: Bench) -> dict[tuple[str, int], list[Seen]]:
    """Every check run once on every misconception that it may answer, on every seed."""
    return {
        (check.name, seed): [_see(bench, check, w, seed) for w in bench.misconceptions_at(check)]
        for check, seed in itertools.product(bench.checks, SEEDS)
        if not check.gpu
    }


def _see(bench: Bench, check: Check, wrong: Misconception, seed: int) -> Seen:
    trial = Trial(bench.rehearse(**{wrong.function: wrong.run}), seed, check)
    try:
        check.run(trial)
    except Failure:
        return Seen(wrong, trial.observations, failed=True)
    return Seen(wrong, trial.observations, failed=False)


def test_each_misconception_is_caught_on_every_seed(
    bench: Bench, seen: dict[tuple[str, int], list[Seen]]
) -> None:
    for wrong, seed in itertools.product(bench.misconceptions, SEEDS):
        verdicts = [
            one.failed
            for (_, at), all_seen in seen.items()
            for one in all_seen
            if at == seed and one.wrong is wrong
        ]
        assert any(verdicts), f"{wrong.name} is not caught on seed {seed}"


def test_no_observation_of_a_mistake_could_be_another_mistakes(
    seen: dict[tuple[str, int], list[Seen]],
) -> None:
    """So a failure that equals a misconception's earns that one's hint and no other's."""
    for (check, seed), all_seen in seen.items():
        for one, other in itertools.combinations(all_seen, 2):
            if one.failed or other.failed:
                alike = same(list(one.observations), list(other.observations))
                assert not alike, (check, seed, one.wrong.name, other.wrong.name)


def test_each_misconception_is_told_its_own_hint(bench: Bench) -> None:
    for wrong in bench.misconceptions:
        learner = bench.rehearse(**{wrong.function: wrong.run})
        verdicts = [
            bench.judge(check, learner, seed=0)
            for check in bench.checks
            if not check.gpu and wrong in bench.misconceptions_at(check)
        ]
        told = {(v.misconception, v.hint) for v in verdicts if v.status == "failed"}
        assert told == {(wrong.name, wrong.hint)}


def test_no_check_is_without_a_mistake_that_fails_it(
    seen: dict[tuple[str, int], list[Seen]],
) -> None:
    for (check, seed), all_seen in seen.items():
        assert any(one.failed for one in all_seen), (check, seed)


def test_every_hint_is_a_sentence_of_its_own(bench: Bench) -> None:
    hints = [wrong.hint for wrong in bench.misconceptions]
    assert all(len(hint) > 30 and hint.endswith(".") for hint in hints)
    assert len(set(hints)) == len(hints)


def test_every_function_has_a_check_and_a_hint_for_where_to_start(lab: Lab, bench: Bench) -> None:
    for function in lab.functions:
        assert any(function in check.functions for check in bench.checks), function
        assert f"{function}_not_written" in {wrong.name for wrong in bench.misconceptions}


def test_checks_name_functions_and_checks_that_exist(lab: Lab, bench: Bench) -> None:
    names: list[str] = []
    for check in bench.checks:
        assert set(check.functions) <= set(lab.functions)
        assert set(check.after) <= set(names), "what a check waits for comes before it"
        names.append(check.name)
    assert len(set(names)) == len(names)
    assert set(names) >= {name for wrong in bench.misconceptions for name in wrong.checks}


def test_every_review_is_a_heading_of_the_lesson(lab: Lab, bench: Bench) -> None:
    text = (lab.folder / "README.md").read_text()
    headings = set(re.findall(r"^#+ (.+?)\s*$", text, flags=re.MULTILINE))
    assert {check.review for check in bench.checks} <= headings


def test_signatures_are_those_of_starter_solution_and_lab(lab: Lab, bench: Bench) -> None:
    starter = ast.parse((lab.folder / "exercise.py").read_text())
    stubs = {node.name: node for node in starter.body if isinstance(node, ast.FunctionDef)}
    for name, told in lab.functions.items():
        wanted = list(inspect.signature(bench.solution[name]).parameters)
        assert [argument.arg for argument in stubs[name].args.args] == wanted
        assert [argument.arg for argument in _parse(told).args.args] == wanted


def _parse(signature: str) -> ast.FunctionDef:
    (node,) = ast.parse(f"def {signature}: ...").body
    assert isinstance(node, ast.FunctionDef)
    return node


def test_the_starter_fails_cleanly_with_a_hint_for_each_function(
    lab: Lab, real_labs: Runner
) -> None:
    results = real_labs.verify(lab.skill, (lab.folder / "exercise.py").read_bytes())
    first, *others = results.values()
    assert first.status == "passed"
    assert {result.status for result in others} <= {"failed", "not_run"}
    failed = [result for result in others if result.status == "failed" and result.level == "check"]
    assert all("not written yet" in result.message for result in failed), failed
    hinted = {result.misconception for result in failed}
    assert hinted == {f"{function}_not_written" for function in lab.functions}


def test_the_solution_passes_through_the_sealed_job(lab: Lab, real_labs: Runner) -> None:
    results = real_labs.verify(lab.skill, (lab.folder / "solution.py").read_bytes())
    left = {result.name: result for result in results.values() if result.status != "passed"}
    assert all(result.cause == "missing" for result in left.values()), left


def test_each_misconception_is_recognised_through_the_sealed_job(
    lab: Lab, bench: Bench, real_labs: Runner
) -> None:
    """The learner's file is the solution with one function wrong: the last binding wins."""
    solution = (lab.folder / "solution.py").read_text()
    header, sources = _misconception_sources(lab)
    for wrong in bench.misconceptions:
        rest = f"\n\n{sources[wrong.name]}\n\n{wrong.function} = {wrong.name}\n"
        results = real_labs.verify(lab.skill, header + solution.replace(FUTURE, "") + rest)
        failed = [result for result in results.values() if result.status == "failed"]
        assert wrong.name in {result.misconception for result in failed}, (wrong.name, failed)


FUTURE = "from __future__ import annotations\n"


def _misconception_sources(lab: Lab) -> tuple[str, dict[str, str]]:
    """Return the imports and helpers of misconceptions.py, and each misconception, undecorated."""
    tree = ast.parse((lab.folder / "misconceptions.py").read_text())
    header, sources = [FUTURE], {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and any(
            "misconception" in ast.unparse(d) for d in node.decorator_list
        ):
            node.decorator_list = []
            sources[node.name] = ast.unparse(node)
        elif not ast.unparse(node).startswith(("from verify", "from __future__", "from solution")):
            header.append(ast.unparse(node) + "\n")
    return "".join(header), sources


def test_the_starter_is_a_notebook_that_runs_as_it_is(lab: Lab, tmp_path: Path) -> None:
    """Scratch cells must do no harm while nothing is written."""
    text = (lab.folder / "exercise.py").read_text()
    assert "# %% [markdown]" in text
    assert text.startswith("# ---\n# jupyter")
    came = subprocess.run(
        [sys.executable, lab.folder / "exercise.py"], cwd=tmp_path, capture_output=True, check=False
    )
    assert came.returncode == 0, came.stderr.decode()


def test_the_starter_and_the_scene_hold_no_answer(lab: Lab, bench: Bench) -> None:
    """No line of a solution's body that is long enough to be one stands in what a learner gets."""
    public = (lab.folder / "exercise.py").read_text() + (lab.folder / "scene.py").read_text()
    for function in bench.solution.values():
        body = ast.parse(inspect.getsource(function)).body[0]
        assert isinstance(body, ast.FunctionDef)
        for line in body.body[1:]:
            text = ast.unparse(line)
            assert len(text) < 25 or text not in public, text


def test_the_lessons_code_runs(lab: Lab, tmp_path: Path) -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```", (lab.folder / "README.md").read_text(), re.M | re.S
    )
    assert blocks
    came = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path, capture_output=True, check=False
    )
    assert came.returncode == 0, came.stderr.decode()


def test_every_link_of_the_lesson_resolves(lab: Lab) -> None:
    text = (lab.folder / "README.md").read_text()
    for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
        assert (lab.folder / link).exists(), link


def test_what_verification_runs_of_the_starter_is_little(lab: Lab) -> None:
    source = Source((lab.folder / "exercise.py").read_bytes(), "exercise.py")
    for function in lab.functions:
        kinds = {type(node) for node in source.needed_for(function)}
        assert kinds <= {ast.FunctionDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign}


def test_what_there_is_to_try_is_python_once_it_is_uncommented(lab: Lab) -> None:
    """Learners select a whole cell and uncomment it: every line of it must be code."""
    text = (lab.folder / "exercise.py").read_text()
    tried = 0
    for cell in re.split(r"^# %%", text, flags=re.MULTILINE)[1:]:
        kind, _, body = cell.partition("\n")
        lines = [line for line in body.splitlines() if line.strip()]
        if "[markdown]" in kind or not lines or not all(line.startswith("#") for line in lines):
            continue
        ast.parse("\n".join(line.removeprefix("#").removeprefix(" ") for line in lines))
        tried += 1
    assert tried >= len(lab.functions)


def test_a_lab_without_an_exercise_holds_a_lesson_and_modules(machine: Lab) -> None:
    found = {file.name for file in machine.folder.iterdir() if file.name != "__pycache__"}
    assert found >= {"README.md", "lab.toml", "checks.py"}
    assert not found & {f"{part}.py" for part in ("exercise", *PARTS[:-1])}
    rest = found - {"README.md", "lab.toml"}
    assert all(name.endswith((".py", ".png")) for name in rest), rest
    assert (PROJECT / "tests" / "labs" / f"test_{machine.skill.replace('-', '_')}.py").exists()


def test_it_comes_before_every_exercise(machine: Lab) -> None:
    assert all(machine.order < lab.order for lab in LABS)


def test_its_checks_are_probes_that_ask_nobody(machine: Lab) -> None:
    bench = Bench(machine)
    names = [check.name for check in bench.checks]
    assert names
    assert len(set(names)) == len(names)
    assert all(check.evidence == "probe" and not check.functions for check in bench.checks)
    assert all(set(check.after) <= set(names) for check in bench.checks)
    test_every_review_is_a_heading_of_the_lesson(machine, bench)


def test_its_lesson_is_one_too(machine: Lab, tmp_path: Path) -> None:
    test_the_lessons_code_runs(machine, tmp_path)
    test_every_link_of_the_lesson_resolves(machine)


def test_its_checks_end_in_a_verdict_through_the_sealed_job(
    machine: Lab, real_labs: Runner
) -> None:
    """Whatever this machine is: a fault is named with what to type, and none is our error."""
    results = real_labs.verify(machine.skill, None)
    assert set(results) == {check.name for check in Bench(machine).checks}
    for result in results.values():
        assert result.status != "error", result
        assert result.message, result
        if result.status == "failed":
            assert result.cause == ENVIRONMENT
            assert all(advice(result.hint or "")), result
