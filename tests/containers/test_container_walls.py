"""The walls of the running containers: read from the engine and from /proc, tried from within."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.containers.conftest import Lab
from verify import client
from verify.users import CONTAINER_UIDS

KEYS = ("checks.py", "solution.py", "misconceptions.py")

# Stays long enough to be looked at. It is the learner's real process, in a real job.
SLEEPER = "import time\ndef weight_bytes(num_params, bits):\n    time.sleep(8)\n"

# Says in an error's message what it could reach; what it could not is an exception each.
PROBE = """
import json, os, socket
def tried(action):
    try:
        return repr(action())[:40]
    except BaseException:
        return None
def weight_bytes(num_params, bits):
    found = {}
    for root, _, files in os.walk("/"):
        if root.startswith(("/proc", "/sys", "/dev")):
            continue
        for name in files:
            path = os.path.join(root, name)
            if name in KEYS and "/labs/" in path or name in ("docker.sock", "token"):
                found[path] = tried(lambda: open(path, "rb").read(1))
    for path in ("/var/run/docker.sock", "/run/docker.sock", "/run/lab/runner.sock"):
        found[path] = tried(lambda: socket.socket(socket.AF_UNIX).connect(path))
    found["results"] = tried(lambda: os.listdir("/var/lib/lab"))
    found["home"] = tried(lambda: os.listdir("/home/lab/1000"))
    found["network"] = tried(lambda: socket.create_connection(("192.0.2.1", 80), 1))
    found["write"] = tried(lambda: open("/opt/lab/x", "w"))
    found["runner"] = tried(lambda: open(f"/proc/{os.getppid()}/environ", "rb").read(1))
    words = ("_TOKEN", "_KEY", "SECRET")
    secret = [name for name in os.environ if any(word in name for word in words)]
    reached = {name: what for name, what in found.items() if what is not None}
    raise RuntimeError("reached " + json.dumps([reached, secret]))
""".replace("KEYS", repr(KEYS))

# Run in JupyterLab's container: keys by name and by what stands in them, sockets, secrets.
LOOK_IN_JUPYTER = f"""
import json, os
KEYS = {KEYS}
found = []
for root, folders, files in os.walk('/'):
    if root.startswith(('/proc', '/sys', '/dev')):
        folders[:] = []
        continue
    for name in files:
        path = os.path.join(root, name)
        if name == 'docker.sock' or ('/labs/' in path and name in KEYS):
            found.append(path)
secret = [name for name in os.environ if any(w in name for w in ('_TOKEN', 'SECRET', 'PASSWORD'))]
print(json.dumps([found, secret]))
"""


def status_of_learner(lab: Lab) -> dict[str, str]:
    """Return /proc/PID/status of the process that learner code runs in, while it runs."""
    look = (
        "import pathlib, json\n"
        "for file in pathlib.Path('/proc').glob('[0-9]*/status'):\n"
        "    told = dict(line.split(':', 1) for line in file.read_text().splitlines())\n"
        f"    if int(told['Uid'].split()[0]) in {CONTAINER_UIDS!r}:\n"
        "        print(json.dumps({name: value.strip() for name, value in told.items()}))\n"
    )
    for _ in range(100):
        told = lab.inside("verifier", "python", "-I", "-c", look).stdout
        if told:
            first: dict[str, str] = json.loads(told.splitlines()[0])
            return first
        time.sleep(0.1)
    raise AssertionError("no learner's process was seen")


def test_the_learners_real_process_has_no_right_left(lab: Lab, solve: Callable[..., None]) -> None:
    """What CI must have read from /proc of the real learner process."""
    solve("memory", SLEEPER)
    command = [*["python", "-m", "verify", "--skill", "memory"]]
    with subprocess.Popen(
        ["docker", "compose", "exec", "-T", "jupyter", *command],
        cwd=lab.layout.root,
        env=lab.environment,
        stdout=subprocess.DEVNULL,
    ) as verifying:
        told = status_of_learner(lab)
        verifying.terminate()
    uids = set(told["Uid"].split())
    assert len(uids) == 1
    assert uids == set(told["Gid"].split())
    assert int(min(uids)) in CONTAINER_UIDS
    assert told["Groups"] == ""
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(told[name], 16) == 0, name
    assert told["Seccomp"] == "2"  # a filter: Docker's own profile
    assert told["NoNewPrivs"] == "1"


def verdicts(lab: Lab, exercise: str) -> dict[str, Any]:
    """Have the runner's container judge an exercise for `memory`; return the results by check."""
    results: dict[str, Any] = {}

    def take(event: dict[str, Any]) -> None:
        if event["event"] == "result":
            results[event["result"]["name"]] = event["result"]

    submission = {"skill": "memory", "exercise": exercise.encode(), "trouble": None}
    with client.connect(lab.layout.runners["compose"]) as channel:
        client.verify(channel, [submission], 1, take)
    return results


def test_learner_code_reaches_no_key_no_token_no_socket_no_network(lab: Lab) -> None:
    results = verdicts(lab, PROBE)
    messages = [result["message"] for result in results.values() if "reached" in result["message"]]
    assert messages, results
    assert all("reached [{}, []]" in message for message in messages), messages[0]


@pytest.mark.parametrize("place", [".", "/dev/shm"])
def test_a_job_that_fills_its_room_on_disk_ends_alone(lab: Lab, place: str) -> None:
    fill = (
        "import time\ndef weight_bytes(num_params, bits):\n    for number in range(40):\n"
        f"        open('{place}/verify-%d' % number, 'wb').write(bytes(16 * 2**20))\n"
        "        time.sleep(0.05)\n    raise RuntimeError('all was written')\n"
    )
    causes = {result["cause"] for result in verdicts(lab, fill).values() if result["cause"]}
    assert "output" in causes
    assert not any("all was written" in r["message"] for r in verdicts(lab, fill).values())
    used = "import os\ndef weight_bytes(num_params, bits):\n    s = os.statvfs('.')\n" + (
        "    raise RuntimeError(f'{(s.f_blocks - s.f_bfree) * s.f_bsize // 2**20} MiB are used')\n"
    )
    assert any(" 0 MiB are used" in r["message"] for r in verdicts(lab, used).values())


def test_jupyter_holds_no_key_no_engine_and_no_secret(lab: Lab) -> None:
    found, secret = json.loads(lab.inside("jupyter", "python", "-c", LOOK_IN_JUPYTER).stdout)
    assert found == []
    assert secret == []


def test_jupyter_cannot_replace_the_runners_socket_or_the_lab(lab: Lab) -> None:
    for path in ("/run/lab/runner.sock", "/opt/lab/tasks.py"):
        assert lab.inside("jupyter", "rm", "-f", path).returncode != 0
    assert lab.inside("jupyter", "touch", "/opt/venv/x", "/run/lab/x").returncode != 0


def test_jupyter_runs_as_the_owner_without_any_right(lab: Lab) -> None:
    told = lab.inside("jupyter", "cat", "/proc/1/status", "/proc/self/status").stdout
    assert {line.split()[1] for line in told.splitlines() if line.startswith("Uid")} == {"1000"}
    rights = [line.split()[1] for line in told.splitlines() if line.startswith("Cap")]
    assert {int(right, 16) for right in rights} == {0}


@pytest.mark.parametrize("service", ["jupyter", "verifier"])
def test_the_engine_says_that_it_is_hardened(lab: Lab, service: str) -> None:
    """The table of the isolation page, read back from the running containers."""
    told = lab.inspect(service)
    host = told["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["ReadonlyRootfs"] is True
    assert host["Privileged"] is False
    assert host["SecurityOpt"] == ["no-new-privileges:true"]  # and so no seccomp=unconfined
    assert host["Init"] is True
    assert host["PidsLimit"] in range(1, 1025)
    assert host["Memory"] > 0
    assert host["MemorySwap"] == host["Memory"]
    assert host["ShmSize"] >= 1024**3
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert "/tmp" in host["Tmpfs"]
    assert ("/jobs/0" in host["Tmpfs"]) == (service == "verifier")
    assert (host["PidMode"], host["UsernsMode"]) == ("", "")
    assert host["IpcMode"] == "private"
    assert not host["Devices"]
    assert not host["DeviceRequests"]  # no GPU key in the CPU variant
    assert not any("docker.sock" in mount["Source"] for mount in told["Mounts"])
    if service == "verifier":
        assert host["NetworkMode"] == "none"
        added = sorted(name.removeprefix("CAP_") for name in host["CapAdd"])
        assert added == ["KILL", "SETGID", "SETUID"]
        assert told["NetworkSettings"]["Ports"] == {}
        writable = [mount["Destination"] for mount in told["Mounts"] if mount["RW"]]
        assert sorted(writable) == ["/run/lab", "/var/lib/lab"]
    else:
        assert not host["CapAdd"]
        assert told["Config"]["User"] == "1000:1000"
        published = told["NetworkSettings"]["Ports"]["8888/tcp"]
        assert [place["HostIp"] for place in published] == ["127.0.0.1"]
        writable = [mount["Destination"] for mount in told["Mounts"] if mount["RW"]]
        assert sorted(writable) == ["/home/lab", "/workspace"]
