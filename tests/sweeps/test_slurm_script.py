"""The array that a sweep prints is a script, and its command one that is taken."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from flexbert.commands import command_parser
from flexbert.sweeps.slurm_script import slurm_script
from tests.conftest import REPOSITORY

SHIPPED = REPOSITORY / "launch" / "slurm.sbatch"
GIVEN = ["yamls/base.yaml", "model.mlp.activation=gelu,silu", "optimizer.betas=[0.9, 0.98]"]


def test_every_task_of_the_array_is_a_part() -> None:
    text = slurm_script("base", GIVEN, 10, at_once=4, num_processes=2)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert "#SBATCH --array=1-3\n" in text
    assert "#SBATCH --gpus-per-node=8\n" in text
    (line,) = re.findall(r"^srun .*$", text, re.MULTILINE)
    words = shlex.split(line.replace("$SLURM_ARRAY_TASK_ID", "2"))
    parsed = command_parser().parse_args(words[words.index("flexbert") + 1 :])
    assert (str(parsed.sweep), *parsed.overrides) == tuple(GIVEN)
    assert parsed.shard == "2/3"


def test_it_ends_as_the_script_of_one_run_does() -> None:
    shipped = SHIPPED.read_text()
    own = slurm_script("base", GIVEN, 10)
    for pattern in (r"^code=.*", r"^case .*", r"^exit .*", r"#SBATCH --sig.*"):
        found = re.findall(pattern, own, re.MULTILINE)
        assert found
        assert found == re.findall(pattern, shipped, re.MULTILINE)


# The first task to be begun, or the last, has the array's own id for its SLURM_JOB_ID.
@pytest.mark.parametrize(
    ("script", "job", "queued"),
    [
        (slurm_script("base", GIVEN, 10), {"SLURM_ARRAY_JOB_ID": "70"}, "70_3"),
        (SHIPPED.read_text(), {"SLURM_ARRAY_JOB_ID": "70"}, "70_3"),
        (SHIPPED.read_text(), {}, "70"),
    ],
    ids=["sweep", "shipped, as an array", "shipped"],
)
@pytest.mark.parametrize(("code", "again"), [(75, True), (137, True), (2, False)])
def test_a_task_that_was_stopped_is_queued_again_without_the_others(
    tmp_path: Path, script: str, job: dict[str, str], queued: str, code: int, again: bool
) -> None:
    """Run with programs in place of Slurm's, of which one ends with ``code``."""
    asked = tmp_path / "asked"
    for name, line in (("srun", f"exit {code}"), ("scontrol", f'echo "$*" >> {asked}')):
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    task = {"SLURM_ARRAY_TASK_ID": "3"} if job else {}
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "70"}
    ended = subprocess.run(["bash", "-c", script], env={**path, **job, **task}, check=False)
    assert ended.returncode == code
    lines = asked.read_text().splitlines() if asked.exists() else []
    assert [line for line in lines if "requeue" in line] == [f"requeue {queued}"] * again
