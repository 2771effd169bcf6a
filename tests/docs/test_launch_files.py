"""The files in launch/ parse, and the commands in them are accepted."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from flexbert.commands import command_parser
from flexbert.train.processes.run_errors import PREEMPTED, PeerError
from tests.conftest import REPOSITORY

SLURM = REPOSITORY / "launch" / "slurm.sbatch"
KUBERNETES = REPOSITORY / "launch" / "kubernetes.yaml"


def launch_command(text: str) -> list[str]:
    """The words behind ``flexbert``, with 1 for what the shell puts in."""
    command = re.search(
        r"exec (flexbert launch .*main\.py[^\n']*)", text.replace("\\\n", " "), re.S
    )
    assert command is not None
    with_values = re.sub(r"\$\(\(.*?\)\)|\"\$\w+\"", "1", command[1]).replace('"$@"', "a.yaml")
    return shlex.split(with_values)[1:]


@pytest.mark.parametrize("file", [SLURM, KUBERNETES], ids=lambda file: file.suffix)
def test_the_launcher_takes_the_command(file: Path) -> None:
    text = file.read_text()
    if file is KUBERNETES:
        (text,) = container()["args"]
    given = command_parser().parse_args(launch_command(text))
    assert given.script == Path("main.py")
    assert None not in (given.nproc, given.world_size, given.node_rank)
    assert None not in (given.master_addr, given.master_port)


def container() -> dict[str, Any]:
    _, job = yaml.safe_load_all(KUBERNETES.read_text())
    (found,) = job["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def test_the_pods_of_the_job_are_those_of_the_command() -> None:
    service, job = yaml.safe_load_all(KUBERNETES.read_text())
    name, spec = job["metadata"]["name"], job["spec"]
    words = launch_command(*container()["args"])
    processes = int(words[words.index("-n") + 1])
    assert int(words[words.index("--world_size") + 1]) == processes * spec["completions"]
    assert container()["resources"]["limits"]["nvidia.com/gpu"] == processes
    assert spec["completions"] == spec["parallelism"]
    address = words[words.index("--master_addr") + 1]
    assert address == f"{name}-0.{service['metadata']['name']}"
    assert spec["template"]["spec"]["subdomain"] == service["metadata"]["name"]


def test_slurm_queues_again_what_the_same_command_goes_on_with() -> None:
    text = SLURM.read_text()
    subprocess.run(["bash", "-n", str(SLURM)], check=True)
    found = re.search(r'case "\$code" in ([\d| ]+)\)', text)
    assert found is not None
    codes = {int(code) for code in found[1].split("|")}
    killed = {128 + signal.SIGKILL, 128 + signal.SIGTERM}
    assert codes == {PREEMPTED, PeerError.exit_code, *killed}
