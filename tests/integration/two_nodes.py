"""Two nodes on one machine: two network namespaces with a cable between them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.integration.faults import Fault
from tests.integration.launcher import REPOSITORY, Launcher, Run, free_port

_ADDRESSES = ("10.77.0.1", "10.77.0.2")


class NoNamespacesError(Exception):
    """This machine, or this user, cannot have network namespaces."""


class TwoNodes:
    """A launcher in each of two network namespaces, joined by a veth pair."""

    def __init__(self) -> None:
        self.names = [f"flexbert-{os.getpid()}-{node}" for node in range(2)]
        self.links = [f"fb{os.getpid() % 1_000_000}n{node}" for node in range(2)]
        self._made: list[str] = []
        try:
            self._join()
        except (OSError, subprocess.CalledProcessError) as error:
            self._remove()
            raise NoNamespacesError(str(error)) from None
        self._launchers = [Launcher(("ip", "netns", "exec", name)) for name in self.names]

    def _join(self) -> None:
        for name in self.names:
            _ip("netns", "add", name)
            self._made.append(name)
        _ip("link", "add", self.links[0], "type", "veth", "peer", "name", self.links[1])
        for name, link, address in zip(self.names, self.links, _ADDRESSES, strict=True):
            _ip("link", "set", link, "netns", name)
            _ip("-n", name, "address", "add", f"{address}/24", "dev", link)
            for up in (link, "lo"):
                _ip("-n", name, "link", "set", up, "up")

    def plug(self, state: str) -> None:
        """Put the cable in (``up``), or pull it out (``down``)."""
        _ip("-n", self.names[1], "link", "set", self.links[1], state)

    def start(
        self,
        recipe: Path,
        overrides: Sequence[str],
        folder: Path,
        own: Sequence[Sequence[str]] = ((), ()),
        faults: Sequence[Fault] = (),
    ) -> list[Run]:
        """Start a run with one process on each node; what each node started.

        Args:
            folder: for each node's output and lines.
            own: more overrides of each node.
        """
        port = free_port()
        runs = []
        for node, launcher in enumerate(self._launchers):
            batches = folder / f"node-{node}"
            batches.mkdir(parents=True, exist_ok=True)
            output = batches / f"output-{time.monotonic_ns()}.txt"
            environment = {
                **{"RANK": node, "LOCAL_RANK": 0, "NODE_RANK": node},
                **{"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 1},
                **{"MASTER_ADDR": _ADDRESSES[0], "MASTER_PORT": port},
                "GLOO_SOCKET_IFNAME": self.links[node],
            }
            pid = launcher.fork(
                recipe,
                [*overrides, *own[node]],
                environment,
                batches,
                output,
                [fault for fault in faults if fault.rank == node],
            )
            runs.append(Run(launcher, [pid], output))
        return runs

    def compose(self, recipe: Path, overrides: Sequence[str]) -> list[subprocess.Popen[str]]:
        """Composer's launcher on both nodes, as it is given by hand."""
        port = free_port()
        started = []
        for node, (name, link) in enumerate(zip(self.names, self.links, strict=True)):
            composer = Path(sys.executable).with_name("composer")
            command = [
                *("ip", "netns", "exec", name, str(composer)),
                *("-n", "1", "--world_size", "2", "--node_rank", str(node)),
                *("--master_addr", _ADDRESSES[0], "--master_port", str(port)),
                *("main.py", str(recipe), *overrides),
            ]
            started.append(
                subprocess.Popen(
                    command,
                    cwd=REPOSITORY,
                    env={**os.environ, "GLOO_SOCKET_IFNAME": link},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        return started

    def close(self) -> None:
        for launcher in self._launchers:
            launcher.close()
        self._remove()

    def _remove(self) -> None:
        for name in self._made:
            _ip("netns", "delete", name)


def wait_until(due: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not due():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
