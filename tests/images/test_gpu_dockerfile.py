"""The GPU image's Dockerfile, built on a stand-in for NVIDIA's image."""

from __future__ import annotations

import contextlib
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.containers.conftest import docker
from tests.images.conftest import MODULE, NUMPY, TORCH, Build, run
from tests.lab.conftest import Said, make_wheel
from verify import lab_content
from verify.lab import build_inputs, image, provenance
from verify.lab.layout import Layout
from verify.lab.problems import Problem

GPU = PROJECT / "images" / "gpu"
PYTHON = "/opt/venv/bin/python"
VERSIONS = "import importlib.metadata as m, json; print(json.dumps({n: m.version(n) for n in %r}))"


def tail(variant: str) -> str:
    text = (PROJECT / "images" / variant / "Dockerfile").read_text()
    return text[text.index("# ---- from here on the same") :]


def log(project: Layout) -> str:
    return project.log("build").read_text()


def test_from_the_libraries_on_both_dockerfiles_are_the_same() -> None:
    assert tail("gpu") == tail("cpu").replace("--variant cpu", "--variant gpu")


def test_the_dockerfile_pins_the_first_of_the_bases_and_every_base_by_digest() -> None:
    bases = tomllib.loads((GPU / "bases.toml").read_text())
    first = next(iter(bases.values()))
    assert f"ARG BASE={first['reference']}\n" in (GPU / "Dockerfile").read_text()
    for base in bases.values():
        references = [base["reference"]] if "reference" in base else [base["amd64"], base["arm64"]]
        assert all(len(it.partition("@sha256:")[2]) == 64 for it in references)


def test_another_base_is_chosen_by_its_name_alone() -> None:
    layout = Layout(PROJECT)
    bases = tomllib.loads((GPU / "bases.toml").read_text())
    for machine in ("amd64", "arm64"):
        platform = f"linux/{machine}"
        named = provenance.named_base(layout, "gpu", "25.11", platform)
        assert named == bases["25.11"][machine]
        assert (
            provenance.named_base(layout, "gpu", "26.08", platform) == bases["26.08"]["reference"]
        )


def test_a_clean_overlay_is_built_and_torch_is_as_it_was(
    built: Build, project: Layout, tmp_path: Path
) -> None:
    wheels = tmp_path / "wheels"
    lock = make_wheel(wheels, "fresh", "1.0", requires=["torch<3,>=2.4", "numpy>=2"])
    lock += make_wheel(wheels, "packaging", "26.2")
    lock += make_wheel(wheels, "numpy", "2.4.6")
    name = built(lock, "fresh==1.0\nnumpy\npackaging>=25\n")
    assert "overlay: 2 installed, 1 of the base shadowed, torch as it was" in log(project)
    names = ["fresh", "packaging", "numpy", "torch"]
    told = json.loads(run(name, PYTHON, "-I", "-c", VERSIONS % names).stdout.splitlines()[-1])
    assert told == {"fresh": "1.0", "packaging": "26.2", "numpy": NUMPY, "torch": TORCH}
    kept = run(name, "cat", "/etc/lab/constraint.txt").stdout.splitlines()[1:]
    assert f"torch=={TORCH}" in kept
    assert f"numpy=={NUMPY}" in kept
    assert not [line for line in kept if line.startswith(("packaging", "not-to-pins-taste"))]
    shadowed = run(name, "cat", "/etc/lab/shadowed.txt").stdout.splitlines()[1:]
    assert shadowed == ["packaging 23.2 -> 26.2"]


def test_with_the_image_s_constraint_pip_refuses_another_torch(
    built: Build, tmp_path: Path
) -> None:
    """What a learner would type; without the constraint the folder's torch is taken."""
    name = built(make_wheel(tmp_path / "wheels", "fresh", "1.0"))
    make_wheel(tmp_path / "wheels", "torch", "2.15.0")
    make_wheel(tmp_path / "wheels", "torchvision", "0.30.0", requires=["torch==2.15.0"])

    def install(*settings: str) -> str:
        words = ("--no-index", "--find-links", "/wheels", "--dry-run", "torchvision")
        shared = f"{tmp_path}/wheels:/wheels:ro"
        pip = (name, PYTHON, "-m", "pip", "install", *words)
        ended = docker("run", "--rm", "--volume", shared, *settings, *pip, check=False)
        return ended.stdout + ended.stderr

    assert "ResolutionImpossible" in install()
    assert "Would install torch-2.15.0" in install("--env", "PIP_CONSTRAINT=")


def test_a_planted_torchvision_fails_the_build_by_its_name(
    built: Build, project: Layout, tmp_path: Path
) -> None:
    lock = make_wheel(tmp_path / "wheels", "fresh", "1.0")
    lock += make_wheel(tmp_path / "wheels", "torchvision", "0.30.0")
    with pytest.raises(Problem):
        built(lock)
    assert "overlay: the lock names torchvision" in log(project)
    assert "Installing collected packages" not in log(project)


def test_a_wheel_that_brings_another_torch_under_another_name_fails_the_build(
    built: Build, project: Layout, tmp_path: Path
) -> None:
    lock = make_wheel(tmp_path / "wheels", "innocent", "1.0", module="torch")
    with pytest.raises(Problem):
        built(lock)
    told = log(project)
    assert "Installing collected packages: innocent" in told
    assert "overlay: torch was" in told
    assert MODULE in told
    assert "/opt/venv/lib/python" in told


def test_a_package_that_needs_a_newer_numpy_fails_the_build_and_names_both(
    built: Build, project: Layout, tmp_path: Path
) -> None:
    lock = make_wheel(tmp_path / "wheels", "hungry", "1.0", requires=["numpy>=2.3"])
    lock += make_wheel(tmp_path / "wheels", "numpy", "2.4.6")
    with pytest.raises(Problem):
        built(lock)
    told = log(project)
    assert f"overlay: the base's numpy {NUMPY} would have to be replaced: hungry 1.0" in told


def test_what_the_overlay_leaves_broken_fails_the_build(
    built: Build, project: Layout, tmp_path: Path
) -> None:
    lock = make_wheel(tmp_path / "wheels", "lonely", "1.0", requires=["nowhere"])
    with pytest.raises(Problem):
        built(lock)
    assert "lonely 1.0 requires nowhere, which is not installed." in log(project)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands in for the model and the data: the stand-in's torch can train none."""
    context = tmp_path_factory.mktemp("given")
    (context / "assets" / "model").mkdir(parents=True)
    (context / "assets" / "model" / "config.json").write_text("{}")
    return context


@pytest.fixture(scope="module")
def images(standin: str, given: Path) -> Iterator[dict[str, str]]:
    """Both GPU images with the real lock, on the stand-in."""
    wanted = image.Wanted("gpu", standin)
    made = {target: f"finetune-lab-test-{target}:gpu" for target in image.TARGETS}
    layout = Layout(PROJECT)
    layout.prepare()
    arguments = build_inputs.arguments

    @contextlib.contextmanager
    def with_assets(layout: Layout) -> Iterator[list[str]]:
        # A context takes the place of the stage of its name.
        with arguments(layout) as told:
            yield [*told, "--build-context", f"assets={given}"]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(build_inputs, "arguments", with_assets)
        for target, name in made.items():
            image.build_target(layout, Said(), wanted, target, name)
    return made


def test_the_whole_lock_goes_onto_the_base_and_the_manifest_says_so(
    images: dict[str, str], given: Path
) -> None:
    for target, name in images.items():
        ended = run(name, "python", "-I", "-m", "verify.manifest", "compare")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert ended.stdout.startswith(f"Identical: torch {TORCH}"), "the base's banner is gone"
        manifest = json.loads(run(name, "cat", "/opt/lab/manifest.json").stdout)
        assert (manifest["target"], manifest["variant"]) == (target, "gpu")
        assert manifest["torch"]["module"] == MODULE
        assert manifest["torch"]["cuda"] == "13.4"
        assert manifest["distributions"]["numpy"] | {"record": ""} == {
            "version": NUMPY,
            "record": "",
            "missing": [],
            "own": False,
        }
        assert list(manifest["locks"]) == ["lab.lock"]
        assert bool(manifest["keys"]) == (target == "verifier")
        assert manifest["assets"] == lab_content.everything(given / "assets")


def test_the_settings_are_those_for_blackwell(images: dict[str, str]) -> None:
    told = json.loads(docker("image", "inspect", images["lab"]).stdout)[0]["Config"]
    settings = dict(line.split("=", 1) for line in told["Env"])
    assert settings["LAB_DTYPE"] == "bfloat16"
    assert settings["ACCELERATE_MIXED_PRECISION"] == "bf16"
    assert settings["LAB_ATTENTION"] == "sdpa"
    assert settings["TRITON_PTXAS_BLACKWELL_PATH"] == "/usr/local/cuda/bin/ptxas"
    assert settings["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    assert not {"PYTORCH_CUDA_ALLOC_CONF", "BNB_CUDA_VERSION"} & settings.keys()
    assert settings["PIP_CONSTRAINT"] == "/etc/lab/constraint.txt"
    assert told["Labels"]["org.opencontainers.image.base.name"].endswith("standin:gpu")
    manifest = json.loads(run(images["lab"], "cat", "/opt/lab/manifest.json").stdout)
    assert manifest["settings"].items() <= settings.items()
    assert "LAB_DTYPE" in manifest["settings"]


def test_a_setting_or_a_library_changed_by_hand_is_named(images: dict[str, str]) -> None:
    words = ("python", "-I", "-m", "verify.manifest", "compare")
    told = docker(
        "run", "--rm", "--env", "BNB_CUDA_VERSION=130", "--env", "LAB_DTYPE=float16",
        images["lab"], *words, check=False,
    )  # fmt: skip
    assert told.returncode == 1
    assert told.stdout.splitlines() == [
        "setting BNB_CUDA_VERSION: not to be set, found 130",
        "setting LAB_DTYPE: expected bfloat16, found float16",
    ]
    tamper = "rm /opt/venv/lib/python3*/site-packages/rich/align.py; " + " ".join(words)
    told = docker("run", "--rm", "--user", "0", images["lab"], "sh", "-c", tamper, check=False)
    assert told.returncode == 1
    assert told.stdout == "rich: 1 file missing, first rich/align.py\n"


def test_only_the_runner_s_root_may_compare_the_keys(images: dict[str, str]) -> None:
    words = ("python", "-I", "-m", "verify.manifest", "compare")
    told = docker("run", "--rm", "--user", "1000", images["verifier"], *words, check=False)
    assert told.returncode == 3
    assert "may not be read." in told.stderr
