"""What the tests of the images share: a stand-in for NVIDIA's image, and builds on it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.containers.conftest import base_image, copy_project, docker, engine
from tests.lab.conftest import Said
from verify.lab import image
from verify.lab.layout import Layout

__all__ = ["base_image", "engine"]

STANDIN = "finetune-lab-test-standin:gpu"
TORCH = "2.14.0a0+4fdf77b940.nv26.8.63802676"
MODULE = "2.14.0a0+4fdf77b940.nv26.08"
NUMPY = "2.1.0"


def install(
    site: Path, name: str, version: str, files: dict[str, str], requires: Sequence[str] = ()
) -> None:
    """Put a distribution into ``site`` as an installer leaves it there."""
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {it}\n" for it in requires)
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
    record = "".join(f"{path},sha256=of-{len(text)},{len(text)}\n" for path, text in files.items())
    told = {f"{info}/METADATA": metadata, f"{info}/INSTALLER": "pip\n", f"{info}/RECORD": record}
    for path, text in {**files, **told}.items():
        file = site / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def install_ngc(site: Path) -> None:
    """Put into ``site`` what stands in for NVIDIA's distributions."""
    version = f"__version__ = {MODULE!r}\ncuda: str | None = '13.4'\n"
    files = {"torch/__init__.py": "", "torch/version.py": version}
    install(site, "torch", TORCH, files, ["sympy"])
    install(site, "triton", "3.8.0", {"triton/__init__.py": ""})
    install(site, "numpy", NUMPY, {"numpy/__init__.py": f"__version__ = {NUMPY!r}\n"})
    install(site, "packaging", "23.2", {"packaging/__init__.py": ""})
    install(site, "not_to_pins_taste", "2024-custom", {"odd.py": ""})


@pytest.fixture(scope="session")
def standin(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image that is to the installer what NVIDIA's is."""
    context = tmp_path_factory.mktemp("standin")
    install_ngc(context / "distributions")
    dockerfile = Path(__file__).parent / "standin" / "Dockerfile"
    docker(
        "buildx", "build", "--file", str(dockerfile), "--build-arg", f"BASE={base_image}",
        "--tag", STANDIN, str(context),
    )  # fmt: skip
    return STANDIN


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A copy of the project whose locks are empty, on a machine whose pip has wheels alone."""
    made = copy_project(tmp_path / "project")
    made.prepare()
    (made.locks / "lab.lock").write_text("")
    (made.locks / "lab.in").write_text("")
    (tmp_path / "wheels").mkdir()
    # Nobody answers there: whatever is installed comes out of the folder.
    settings = f"index-url = http://127.0.0.1:9/\nretries = 0\nfind-links = {tmp_path}/wheels\n"
    (tmp_path / "pip.conf").write_text(f"[global]\n{settings}")
    for name in ("PIP_CERT", "PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    return made


Build = Callable[..., str]


@pytest.fixture
def built(standin: str, project: Layout) -> Iterator[Build]:
    """Build the part of the GPU Dockerfile that installs, with a lock and its `.in` file."""
    made: list[str] = []

    def build(lock: str, wanted: str = "") -> str:
        (project.locks / "lab.lock").write_text(lock)
        (project.locks / "lab.in").write_text(wanted)
        name = f"finetune-lab-test-overlay:{len(made)}"
        made.append(name)
        image.build_target(project, Said(), image.Wanted("gpu", standin), "libraries", name)
        return name

    yield build
    for name in made:
        docker("image", "rm", "--force", name, check=False)


def run(name: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a container of an image, as the image says."""
    return docker("run", "--rm", "--network", "none", name, *command, check=False)
