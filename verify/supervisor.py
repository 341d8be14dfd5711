"""The runner: takes submissions over a Unix socket, has them judged, keeps and tells the results.

``python -I -m verify.supervisor --socket PATH`` stays; ``--client FD`` serves one client and ends.
A client may be hostile: what it sends is bounded in size and time, and it learns results only.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import secrets
import signal
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from verify import describe, gpu_nodes, privileges, requests, scratch, users, walls
from verify.channel import PROTOCOL, Channel, ChannelError, refuse_descriptors
from verify.code_hash import code_hash
from verify.court import Court, Turn, count_slots
from verify.endpoint import listening
from verify.job import Abandoned, Slot
from verify.labs import LabError
from verify.leftovers import remove_leftovers
from verify.pids import descendants
from verify.plain import Plain
from verify.processes import Family, ZygoteError
from verify.requests import Refused, Wanted
from verify.store import Store

_REQUEST_SECONDS: Final = 10.0
_REQUEST_BYTES: Final = 16 * 1024 * 1024
_TELL_SECONDS: Final = 5.0  # for a client to take an event
_CLIENTS: Final = 32
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid; unix(7), SO_PEERCRED

log = logging.getLogger("verify.supervisor")


class Supervisor:
    """Serves clients, one thread each."""

    def __init__(self, labs: Path, results: Path, runtime: str) -> None:
        self._labs = labs
        self._store = Store(results)
        self._unfinished = self._store.interrupt_running()
        for left in self._unfinished:
            log.warning("left unfinished by a runner that was killed: %s", left)
        self._users = users.claim(count_slots())
        found = walls.look(user=bool(self._users.uids), reason=self._users.reason)
        self._environment = describe.environment(runtime, found)
        self._code = code_hash()  # as it was when this process began
        self._clients = threading.BoundedSemaphore(_CLIENTS)
        self._family = Family()
        uids = self._users.uids or [None] * count_slots()
        slots = [Slot(uid, found, scratch.folder(at)) for at, uid in enumerate(uids)]
        self._court = Court(self._family, self._store, slots)
        remove_leftovers(self._family)

    def start(self) -> None:
        """Start the process that jobs are forked from."""
        self._family.start()

    def stop(self) -> None:
        """End every child and close the results."""
        self._family.stop()
        self._store.close()

    def listen(self, path: Path) -> None:
        """Serve clients at ``path`` until the process is told to stop."""
        with listening(path) as server:
            log.info("listening on %s", path)
            while True:
                self._clients.acquire()
                self._begin(self._accept(server))

    def _accept(self, server: socket.socket) -> socket.socket:
        while True:
            try:
                connection, _ = server.accept()
            except OSError as error:  # out of descriptors, say: others will give some back
                log.warning("a client could not be accepted: %s", error)
                time.sleep(0.1)
                continue
            with contextlib.suppress(OSError):  # out of descriptors, to look who it is
                if not _is_below_us(connection):  # learner code that has reached the socket
                    refuse_descriptors(connection)
                    return connection
            connection.close()

    def _begin(self, connection: socket.socket) -> None:
        """Serve a client in a thread of its own; where none can be started it is turned away."""
        try:
            threading.Thread(target=self._serve_one, args=(connection,), daemon=True).start()
        except RuntimeError as error:
            log.warning("a client could not be served: %s", error)
            connection.close()
            self._clients.release()

    def _serve_one(self, connection: socket.socket) -> None:
        try:
            self.serve(Channel(connection))
        finally:
            connection.close()
            self._clients.release()

    def serve(self, client: Channel) -> None:
        """Answer one client's request."""
        try:
            told = client.receive(_REQUEST_SECONDS, _REQUEST_BYTES)
            self._answer(client, told)
        except Abandoned:
            log.info("a client left before its verification was done")
        except Refused as refusal:
            self._tell(client, {"event": "refused", "message": str(refusal)})
        except ChannelError as error:
            log.info("a client was dropped: %s", error)
            self._tell(client, {"event": "refused", "message": str(error)})
        except Exception:
            log.exception("a request failed")
            self._tell(client, {"event": "refused", "message": "the runner failed; see its log"})

    def _answer(self, client: Channel, told: Plain) -> None:
        if not isinstance(told, dict) or told.get("protocol") != PROTOCOL:
            raise Refused(
                f"this runner speaks protocol {PROTOCOL}; update the client or the runner"
            )
        if told.get("op") == "hello":
            self._tell(client, {"event": "hello", **self._hello()})
        elif told.get("op") == "selftest":
            self._verify(client, [requests.selftest(self._labs)], seed=None, practice=True)
        elif told.get("op") == "verify":
            self._verify(client, requests.submissions(told, self._labs), seed=requests.seed(told))
        else:
            raise Refused("an unknown request")

    def _hello(self) -> dict[str, Plain]:
        return {
            "protocol": PROTOCOL,
            "code": self._code,
            "pid": os.getpid(),
            "sealing": self._environment.sealing,
            "walls": list(self._environment.walls),
            "unfinished": list(self._unfinished),
        }

    def _verify(
        self,
        client: Channel,
        wanted: list[Wanted],
        seed: int | None,
        *,
        practice: bool = False,
    ) -> None:
        drawn = secrets.randbits(48) if seed is None else seed  # after the files were frozen
        environment = msgspec.to_builtins(self._environment)
        self._tell(client, {"event": "environment", "seed": drawn, "environment": environment})
        turns = [Turn(it, drawn, practice=practice or seed is not None) for it in wanted]
        for event in self._court.judge(client, turns):
            try:
                client.send(event, seconds=_TELL_SECONDS)
            except ChannelError:  # what came after a lost event would say something else
                raise Abandoned from None
        self._tell(client, {"event": "done"})

    def _tell(self, client: Channel, event: dict[str, Plain]) -> None:
        """Send a last event; a client that has gone misses it."""
        with contextlib.suppress(ChannelError):
            client.send(event, seconds=_TELL_SECONDS)


def _is_below_us(connection: socket.socket) -> bool:
    """Tell whether a descendant of this process has connected: it is no client."""
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    peer, _, _ = _CREDENTIALS.unpack(told)
    return peer in descendants(os.getpid())


def main() -> None:
    """Run the supervisor as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--socket", type=Path, help="listen here")
    where.add_argument("--client", type=int, help="serve the one client at this descriptor")
    parser.add_argument("--labs", type=Path, required=True, help="the folder of the labs")
    parser.add_argument("--results", type=Path, required=True, help="the results file")
    parser.add_argument("--runtime", default="local", help="the name of this runtime in results")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    privileges.hide_memory()
    signal.signal(signal.SIGTERM, lambda *_: _stop())
    gpu_nodes.make_unified()
    supervisor = Supervisor(options.labs, options.results, options.runtime)
    try:
        supervisor.start()
        if options.socket:
            supervisor.listen(options.socket)
        else:
            supervisor.serve(Channel(socket.socket(fileno=options.client)))
    except (KeyboardInterrupt, SystemExit):
        log.info("stopping")
    finally:
        supervisor.stop()


def _stop() -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    try:
        main()
    except (LabError, ZygoteError, OSError) as error:
        raise SystemExit(f"The runner could not start: {error}") from error
