"""A Slurm array that trains a sweep."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

# Of a node of eight GPUs with 64 cores, as launch/slurm.sbatch asks for.
_CORES_PER_GPU = 8
_SCRIPT = """\
#!/bin/bash
# {title}
#
#     flexbert sweep ... --slurm > sweep.sbatch && sbatch sweep.sbatch
#
# A task stops its runs and saves two minutes before its time is over, or when it is preempted, and
# is queued again.
#SBATCH --job-name={name}
#SBATCH --array=1-{tasks}
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={gpus}
#SBATCH --cpus-per-task={cores}
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append

# Activate the environment before sbatch: the job inherits it. Submit it where paths are relative
# to. For CPUs take out --gpus-per-node.
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"  # srun no longer takes it from sbatch by itself

# --kill-on-bad-exit=0: the runs end by themselves, after their checkpoints.
srun --kill-on-bad-exit=0 {command} --shard "$SLURM_ARRAY_TASK_ID/{tasks}"
code=$?

# 75: stopped on request and saved. 71: a process was lost. 137, 143: killed, without saving. The
# same command goes on. The plain SLURM_JOB_ID of one task is that of the whole array, and would
# begin all tasks again.
case "$code" in 71 | 75 | 137 | 143)
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID" ;;
esac
exit "$code"
"""


def slurm_script(
    name: str, arguments: Sequence[str], runs: int, *, num_processes: int = 1, at_once: int = 1
) -> str:
    """The script of an array of one task for every ``at_once`` runs, each a part of the sweep.

    Args:
        name: of the sweep.
        arguments: of ``flexbert sweep``, without ``--shard`` and ``--slurm``.
        runs: of the sweep.
        num_processes: of each run, with a GPU each.
    """
    tasks = math.ceil(runs / at_once)
    of_a_task = "one run" if at_once == 1 else f"up to {at_once} at once"
    gpus = num_processes * at_once
    return _SCRIPT.format(
        title=f"The {runs} runs of the sweep {name}: {tasks} tasks, each of {of_a_task}.",
        name=name,
        tasks=tasks,
        gpus=gpus,
        cores=gpus * _CORES_PER_GPU,
        command=shlex.join(["flexbert", "sweep", *arguments]),
    )
