"""Images and containers of this lab, asked of the engine through the Docker SDK for Python."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from verify.lab.engine_client import asked
from verify.lab.problems import Problem

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER: Final = "com.docker.compose.project.working_dir"
_SERVICE: Final = "com.docker.compose.service"
_ONE_OFF: Final = "com.docker.compose.oneoff"


def images() -> dict[str, dict[str, Any]]:
    """Return the engine's images by tag: as `docker image ls` tells them, with ``Labels``."""
    with asked() as client:
        told = client.api.images()
    return {tag: image for image in told for tag in image.get("RepoTags") or ()}


def layer_sizes(image: str) -> list[int]:
    """Return the bytes of each layer of an image that holds files, the newest first."""
    with asked() as client:
        return [layer["Size"] for layer in client.images.get(image).history() if layer["Size"]]


def architecture() -> str:
    """Return the engine's architecture, as platforms name it (``amd64``)."""
    with asked() as client:
        return str(client.version()["Arch"])


def import_image(archive: Path, name: str) -> None:
    """Make an image of one layer out of a file system's archive."""
    repository, _, tag = name.partition(":")
    with asked() as client:
        client.api.import_image_from_file(str(archive), repository=repository, tag=tag)


def of(root: Path) -> dict[str, Any]:
    """Return the containers of the Compose project in ``root``, by service, stopped ones too."""
    with asked() as client:
        wanted = {"label": [f"{_FOLDER}={root}", f"{_ONE_OFF}=False"]}
        found = client.containers.list(all=True, filters=wanted, ignore_removed=True)
        return {container.labels[_SERVICE]: container for container in found}


def elsewhere(project: str, root: Path) -> str | None:
    """Return the folder whose Compose project has the name ``project`` and is not ``root``."""
    with asked() as client:
        wanted = {"label": [f"com.docker.compose.project={project}"]}
        found = client.containers.list(all=True, filters=wanted, ignore_removed=True)
    folders = {str(container.labels.get(_FOLDER)) for container in found} - {str(root)}
    return min(folders) if folders else None


def remove_unnamed(identity: str) -> None:
    """Remove an image that has lost its name to a newer one, unless a container still runs it."""
    with contextlib.suppress(Problem), asked() as client:
        if not client.images.get(identity).tags:
            client.images.remove(identity)


def run_in(container: Any, *command: str) -> str:
    """Return what a command in a running container prints on its standard output.

    Raises:
        Problem: it failed.
    """
    with asked() as client:
        code, (output, errors) = client.containers.get(container.id).exec_run(command, demux=True)
    if code:
        told = (errors or output or b"").decode(errors="replace").strip()
        raise Problem(
            f"{command[0]} failed in {container.name}: {told[-300:]}",
            cause="the container is starting, or ended",
            type_this="invoke lab.logs",
        )
    return (output or b"").decode()


def run_image(image: str, *command: str) -> tuple[int, bytes]:
    """Run a command in a container of its own, without network; return its exit code and output."""
    with asked() as client:
        container = client.containers.run(
            image, list(command), user="0:0", network_mode="none", cap_drop=["ALL"], detach=True
        )
        try:
            code = int(container.wait(timeout=120)["StatusCode"])
            return code, container.logs(stdout=True, stderr=code != 0)
        finally:
            container.remove(force=True)
