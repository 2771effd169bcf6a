"""The array that a sweep prints is a script, and its command one that is taken."""

from __future__ import annotations

import re
import shlex
import subprocess

from flexbert.commands import command_parser
from flexbert.sweeps.slurm_script import slurm_script
from tests.conftest import REPOSITORY

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
    shipped = (REPOSITORY / "launch" / "slurm.sbatch").read_text()
    own = slurm_script("base", GIVEN, 10)
    for pattern in (r"^code=.*", r"^case .*", r"^    scontrol .*", r"^exit .*", r"#SBATCH --sig.*"):
        found = re.findall(pattern, own, re.MULTILINE)
        assert found
        assert found == re.findall(pattern, shipped, re.MULTILINE)
