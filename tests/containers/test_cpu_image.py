"""The CPU image: what is in its layers, what is not, and what a change builds anew."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.assets.rows import instructions
from tests.containers.conftest import copy_project, docker
from tests.lab.conftest import Said, make_wheel
from verify.lab import containers, image
from verify.lab.layout import Layout

MARK = "https://somebody:mark-of-a-secret@index.invalid/simple"


def layers(name: str) -> list[str]:
    found: list[str] = json.loads(docker("image", "inspect", name).stdout)[0]["RootFS"]["Layers"]
    return found


def files_in_layers(name: str) -> Iterator[tuple[str, bytes]]:
    """Yield every file of every layer of an image, the hidden ones too, and its configuration."""
    saved = subprocess.run(["docker", "save", name], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        for member in archive.getmembers():
            content = archive.extractfile(member) if member.isfile() else None
            if content is None:
                continue
            data = content.read()
            if data[257:262] != b"ustar":
                yield member.name, data
                continue
            with tarfile.open(fileobj=io.BytesIO(data)) as layer:
                for file in filter(tarfile.TarInfo.isfile, layer.getmembers()):
                    opened = layer.extractfile(file)
                    yield file.name, opened.read() if opened else b""


@pytest.fixture
def project(tmp_path: Path) -> Layout:
    return copy_project(tmp_path / "project")


def build(layout: Layout, base: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("LAB_IMAGE", name)
    image.build(layout, Said(), image.Wanted("cpu", base))


@pytest.fixture
def rebuilt(
    images: dict[str, str], base_image: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The name for images of a changed project; removed afterwards."""
    name = "finetune-lab-test-changed"
    yield name
    for ending in image.TARGETS.values():
        docker("image", "rm", "--force", f"{name}{ending}:cpu", check=False)


def test_a_build_without_a_change_takes_every_layer_as_it_was(
    images: dict[str, str],
    base_image: str,
    rebuilt: str,
    project: Layout,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build(project, base_image, monkeypatch, rebuilt)
    for target, ending in image.TARGETS.items():
        assert layers(f"{rebuilt}{ending}:cpu") == layers(images[target])
    log = project.log("build").read_text()
    assert log.count("CACHED") > 0
    assert "Installing collected packages" not in log


def test_a_changed_lesson_builds_one_small_layer_anew(
    images: dict[str, str],
    base_image: str,
    rebuilt: str,
    project: Layout,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (project.labs / "memory" / "README.md").open("a") as lesson:
        lesson.write("\nOne more sentence.\n")
    build(project, base_image, monkeypatch, rebuilt)
    before, after = layers(images["lab"]), layers(f"{rebuilt}:cpu")
    assert [old == new for old, new in zip(before, after, strict=True)] == (
        [True] * (len(before) - 1) + [False]
    )
    sizes = containers.layer_sizes(f"{rebuilt}:cpu")
    assert sizes[0] < 1_000_000
    assert "training: step" not in project.log("build").read_text()


def test_a_changed_check_leaves_jupyters_image_as_it_was(
    images: dict[str, str],
    base_image: str,
    rebuilt: str,
    project: Layout,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (project.labs / "memory" / "checks.py").open("a") as checks:
        checks.write("# another thought\n")
    build(project, base_image, monkeypatch, rebuilt)
    assert layers(f"{rebuilt}:cpu") == layers(images["lab"])
    assert layers(f"{rebuilt}-verifier:cpu") != layers(images["verifier"])


def test_what_a_build_is_given_of_this_machine_stays_in_no_layer(
    base_image: str, project: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same Dockerfile with two small wheels for locks, so that all of it can be read."""
    wheels = tmp_path / "wheels"
    for name in ("torch-cpu", "lab"):
        line = make_wheel(wheels, f"tiny{name[0]}", "1.0")
        (project.locks / f"{name}.lock").write_text(line)
    bundle = tmp_path / "ca.pem"
    bundle.write_text("-----MARK OF A CERTIFICATE-----\n")
    settings = tmp_path / "pip.conf"
    settings.write_text(f"[global]\nindex-url = {MARK}\ncert = {bundle}\nfind-links = {wheels}\n")
    for name in ("PIP_CERT", "PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    # Read by the build for sure: without the wheels' folder nothing could be installed.
    wanted = image.Wanted("cpu", base_image)
    name = "finetune-lab-test-secrets:cpu"
    monkeypatch.setenv("LAB_IMAGE", name.removesuffix(":cpu"))
    image.build_target(project, Said(), wanted, "libraries", name)
    try:
        found = {Path(path).name: content for path, content in files_in_layers(name)}
    finally:
        docker("image", "rm", "--force", name)
    assert found["tinyt.py"]
    assert found["tinyl.py"]
    for path, content in found.items():
        for mark in (b"mark-of-a-secret", b"MARK OF A CERTIFICATE", str(wheels).encode()):
            assert mark not in content, path
    assert not {"pip.conf", "ca", "ca.pem", "tinyt-1.0-py3-none-any.whl"} & set(found)


def test_no_key_is_in_any_layer_of_jupyters_image(images: dict[str, str]) -> None:
    names = {path for path, _ in files_in_layers(images["lab"]) if "/labs/" in f"/{path}"}
    assert any(path.endswith("memory/exercise.py") for path in names)
    assert not [path for path in names if path.endswith(("checks.py", "solution.py"))]
    assert not [path for path in names if path.endswith("misconceptions.py")]


@pytest.mark.parametrize("user", ["1000", "4321"])
def test_model_and_data_are_in_the_image_for_whoever_runs_it(
    images: dict[str, str], user: str
) -> None:
    def run(*command: str) -> str:
        return docker("run", "--rm", "--read-only", "--network", "none", "--user", user,
                      "--tmpfs", "/tmp", images["lab"], *command).stdout  # fmt: skip

    assert run("python", "-m", "labs.assets") == "There already: /opt/lab/assets\n"
    assert run("python", "-c", ASK).splitlines()[-1] == f"{len(instructions().train)} ['children']"


def test_a_model_changed_by_hand_is_named(images: dict[str, str]) -> None:
    words = "python -I -m verify.manifest compare"
    tamper = f"echo >>/opt/lab/assets/data/instructions/train.jsonl; {words}"
    told = docker("run", "--rm", "--user", "0", images["lab"], "sh", "-c", tamper, check=False)
    assert (told.returncode, told.stdout) == (1, "assets: changed\n")


def test_everything_that_lies_in_the_image_can_be_imported(images: dict[str, str]) -> None:
    code, told = containers.run_image(images["lab"], "python", "-c", IMPORT_ALL)
    assert code == 0, told.decode()


ASK = """
import json, pathlib
from labs import assets
from transformers import pipeline
rows = pathlib.Path(assets.data(), "train.jsonl").read_text().splitlines()
ask = pipeline("text-generation", assets.model())
prompt = "### Instruction:\\nWhat is the plural of child?\\n\\n### Response:\\n"
said = ask(prompt, return_full_text=False, max_new_tokens=8, do_sample=False)
print(len(rows), [it["generated_text"] for it in said])
"""

# What was trimmed away must be missed by nobody: import each top-level package of each library.
IMPORT_ALL = """
import importlib, importlib.metadata, sys, warnings
warnings.simplefilter("ignore")
names = importlib.metadata.packages_distributions()
failed = {}
for name in sorted(names):
    if name.isidentifier() and not name.startswith("_") and name not in ("pvectorc",):
        try:
            importlib.import_module(name)
        except BaseException as error:
            failed[name] = repr(error)[:200]
sys.exit(str(failed) if failed else 0)
"""
