"""A real SSH server on loopback that serves files, and a proxy that breaks connections to it."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
KEYGEN = shutil.which("ssh-keygen")


@dataclass
class SftpServer:
    """A running server.

    Attributes:
        key: the private key that it lets in.
        known_hosts: names its host key under every port that an address was asked for.
    """

    port: int
    key: Path
    known_hosts: Path

    def url(self, folder: Path, port: int | None = None) -> str:
        """The address of an absolute path, by default not through a proxy."""
        port = port or self.port
        host_key = self.key.with_name("host.pub").read_text()
        with self.known_hosts.open("a") as file:
            file.write(f"[127.0.0.1]:{port} {host_key}")
        return f"sftp://{getpass.getuser()}@127.0.0.1:{port}{folder}"


@contextlib.contextmanager
def sftp_server(folder: Path) -> Iterator[SftpServer]:
    """Start a server with keys and settings of its own in ``folder``; it ends with the context."""
    for name in ("host", "user"):
        command = [str(KEYGEN), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    port = _free_port()
    settings = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "user.pub",
        "PidFile": "none",
        "UsePAM": "no",
        "StrictModes": "no",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "MaxStartups": "100",
        "Subsystem": "sftp internal-sftp",
    }
    config = folder / "sshd_config"
    config.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd as root insists on it
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(config)], stderr=log) as process,
    ):
        try:
            _wait_until_open(port, process, folder / "log")
            yield SftpServer(port, folder / "user", folder / "known_hosts")
        finally:
            process.terminate()


class Proxy:
    """Passes connections on to a port, and breaks as many as it is told to.

    Args:
        after_bytes: what a doomed connection still passes on from the server.
        stall: whether it then falls silent; else it is closed.
    """

    def __init__(self, port: int, *, breaks: int, after_bytes: int, stall: bool = False) -> None:
        self.num_connections = 0
        self._target = port
        self._breaks = breaks
        self._after_bytes = after_bytes
        self._stall = stall
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def close(self) -> None:
        """Take no more connections."""
        # Closing alone would leave the accepting thread waiting.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.num_connections += 1
                left = self._after_bytes if self.num_connections <= self._breaks else None
                server = socket.create_connection(("127.0.0.1", self._target))
                self._start(self._pass_on, client, server, None)
                self._start(self._pass_on, server, client, left)

    def _pass_on(self, source: socket.socket, target: socket.socket, left: int | None) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(1 << 15):
                if left is not None:
                    block, left = block[:left], max(0, left - len(block))
                target.sendall(block)
                if left == 0:
                    if self._stall:
                        return
                    break
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    @staticmethod
    def _start(target: object, *args: object) -> None:
        threading.Thread(target=target, args=args, daemon=True).start()  # type: ignore[arg-type]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)
    raise RuntimeError(f"sshd did not start: {log.read_text()}")
