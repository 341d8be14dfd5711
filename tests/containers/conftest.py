"""What the container tests share: an engine, the images, and a lab brought up by `invoke`.

Images, containers and volumes of the tests have names of their own and are removed afterwards
(the images stay: the next run builds in seconds).
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PROJECT
from tests.lab.conftest import Said
from tests.lab.test_jupyter import free_port
from verify.lab import base_image as own_base
from verify.lab import containers, image
from verify.lab.layout import Layout

IMAGE = "finetune-lab-test"


def docker(*words: str, check: bool = True, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run `docker`, with both outputs caught."""
    ended = subprocess.run(
        ["docker", *words], capture_output=True, text=True, check=False, timeout=600, **how
    )
    assert not check or ended.returncode == 0, ended.stdout + ended.stderr
    return ended


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker engine with Compose and Buildx."""
    for words in (["info"], ["compose", "version"], ["buildx", "version"]):
        with contextlib.suppress(OSError):
            if docker(*words, check=False).returncode == 0:
                continue
        pytest.skip('no Docker engine answers. Type: eval "$(.ci/engine start)"')


@pytest.fixture(scope="session")
def base_image(engine: None) -> str:
    """The base that `invoke image.base` makes: no registry is needed."""
    if own_base.NAME not in containers.images():
        own_base.build(Said())
    return own_base.NAME


@pytest.fixture(scope="session")
def image_names(engine: None) -> Iterator[None]:
    """Names for the images that are not those of a lab on this machine."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LAB_IMAGE", IMAGE)
        yield


@pytest.fixture(scope="session")
def images(base_image: str, image_names: None) -> dict[str, str]:
    """Both CPU images, built from this project, by target."""
    image.build(Layout(PROJECT), Said(), image.Wanted("cpu", base_image))
    return {target: image.name(target, "cpu") for target in image.TARGETS}


def copy_project(root: Path) -> Layout:
    """Make a copy of what a lab is brought up from."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("verify", "labs", "images"):
        shutil.copytree(PROJECT / name, root / name, ignore=ignored)
    for name in ("tasks.py", "compose.yaml", ".dockerignore"):
        shutil.copy(PROJECT / name, root)
    for name in ("workspace", ".lab/compose"):  # a clone has them: they belong to its owner
        (root / name).mkdir(parents=True)
    return Layout(root)


@dataclasses.dataclass(frozen=True)
class Lab:
    """A copy of the project on which `invoke` brings containers up."""

    layout: Layout
    port: int
    project: str

    @property
    def environment(self) -> dict[str, str]:
        named = {"COMPOSE_PROJECT_NAME": self.project, "LAB_IMAGE": IMAGE, "NO_COLOR": "1"}
        return os.environ | named

    def invoke(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "invoke", *words],
            cwd=self.layout.workspace,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def up(self, *words: str) -> subprocess.CompletedProcess[str]:
        ended = self.invoke("lab.up", "--runtime", "compose", "--port", str(self.port), *words)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended

    def compose(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return docker("compose", *words, check=check, cwd=self.layout.root, env=self.environment)

    def inside(self, service: str, *command: str, folder: str = "/") -> Any:
        """Run a command in a container, as its user."""
        return self.compose("exec", "-T", "-w", folder, service, *command, check=False)

    def inspect(self, service: str) -> dict[str, Any]:
        found: dict[str, Any] = containers.of(self.layout.root)[service].attrs
        return found

    def get(self, path: str, token: str = "") -> int:
        """Return the status of a request to JupyterLab."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Authorization": f"token {token}"} if token else {}
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status


@contextlib.contextmanager
def lab_of(owner: int) -> Iterator[Lab]:
    """Yield a lab whose files belong to user ``owner``; nothing of it runs yet."""
    root = Path(tempfile.mkdtemp(prefix="lab-")).resolve()
    root.chmod(0o755)
    layout = copy_project(root)
    for path in (root, *root.rglob("*")):
        os.chown(path, owner, owner)
    made = Lab(layout, free_port(), root.name)
    try:
        yield made
    finally:
        made.compose("down", "--volumes", check=False)
        shutil.rmtree(root)


@pytest.fixture(scope="session")
def lab(images: dict[str, str]) -> Iterator[Lab]:
    """A lab that is up, its files those of user 1000."""
    with lab_of(1000) as made:
        made.up()
        yield made


@pytest.fixture
def solve(lab: Lab) -> Iterator[Callable[[str], None]]:
    """Put a lab's solution into the workspace; the starter is back afterwards."""
    changed = []

    def put(skill: str, text: str | None = None) -> None:
        exercise = lab.layout.workspace / skill / "exercise.py"
        changed.append((exercise, exercise.read_bytes()))
        solution = lab.layout.labs / skill / "solution.py"
        exercise.write_text(solution.read_text() if text is None else text)

    yield put
    for file, content in changed:
        file.write_bytes(content)
