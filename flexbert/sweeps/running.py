"""Trains the runs of a sweep, next to any other processes that do.

As in a search over tasks there is no queue: a process takes the first run that is neither finished
nor locked. A launch holds its run's lock too, so that one whose parent was killed keeps its run
until it has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from flexbert.devices.machine_shares import machine_shares
from flexbert.errors import UserError
from flexbert.files.durable import make_folder
from flexbert.report.recorded_run import recorded_recipe
from flexbert.sweeps.launches import LOCKS, LOGS, Launched, Launches
from flexbert.sweeps.runs import RUNS, SweepRun
from flexbert.tasks.watching import run_is_finished
from flexbert.train.processes.run_errors import DONE, PREEMPTED
from flexbert.train.processes.run_lock import folder_is_held
from flexbert.train.run_folder import refuse_changed_recipe

_ANOTHER_POINT = (
    "Give the old values, the point or the sweep another name, or --out FOLDER; or remove the run"
)
# How often launches are asked whether they have ended, and the folder whether a run is free.
_ASK_SECONDS, _LOOK_SECONDS = 0.1, 1.0


def check_begun(runs: Sequence[SweepRun]) -> None:
    """See that what was begun of a sweep was begun with the same recipes.

    Raises:
        UserError: naming the keys that changed.
    """
    for run in runs:
        _, begun_with = recorded_recipe(run.folder)
        if begun_with:
            refuse_changed_recipe(
                run.folder, begun_with, run.recipe.resolved, remedy=_ANOTHER_POINT
            )


def check_folder(runs: Sequence[SweepRun], folder: Path) -> list[str]:
    """See whose runs lie in a sweep's folder.

    Returns:
        names of those that are not this sweep's, where others are: of points or seeds that it had.

    Raises:
        UserError: if all are another's, whose table would be lost.
    """
    below = folder / RUNS
    there = {path.name for path in below.iterdir()} if below.is_dir() else set()
    own = {run.name for run in runs}
    if there and not there & own:
        count = f"{len(there)} runs" if len(there) > 1 else f"the run {min(there)}"
        raise UserError(
            f"{folder} holds {count} of another sweep; give --out FOLDER, or in a sweep's file "
            "another name (sweep: NAME)"
        )
    return sorted(there - own)


def train_runs(
    runs: Sequence[SweepRun],
    base: Path,
    folder: Path,
    tell: Callable[[Launched], None],
    *,
    num_processes: int = 1,
    at_once: int = 1,
    is_enough: Callable[[SweepRun], bool] | None = None,
) -> int:
    """Train runs until all are finished or have failed, in their order.

    Args:
        base: the recipe that they are of.
        folder: of the sweep.
        tell: is called after each launch of this process.
        num_processes: of each run.
        at_once: how many runs train at the same time, each with a share of the machine.
        is_enough: is asked again and again while a run trains; once it says so, the run is stopped
            with a checkpoint and not taken up again.

    Returns:
        0 when all are finished, 75 when this process was told to stop, otherwise the code of the
        first run that has failed.

    Raises:
        UserError: if the machine has too few GPUs for so many at once.
    """
    shares = machine_shares(at_once, num_processes)
    for name in (LOCKS, LOGS):
        make_folder(folder / name)
    finished: set[str] = set()
    failed: dict[str, int] = {}
    enough: set[str] = set()
    looked = -_LOOK_SECONDS
    with Launches(base, folder, num_processes, shares) as launches:
        while not (launches.stopping and not launches.going):
            for launched in launches.ended():
                looked = -_LOOK_SECONDS
                if launched.was_enough:
                    enough.add(launched.run.name)
                else:
                    _note(launched, launches, failed)
                tell(launched)
            if is_enough is not None:
                _stop_for_good(launches, is_enough)
            if launches.has_room and time.monotonic() - looked >= _LOOK_SECONDS:
                going = {launch.run.name for launch in launches.going}
                finished |= {
                    run.name for run in runs if run.name not in finished and is_finished(run)
                }
                ended = finished | enough | {*failed}
                left = [run for run in runs if run.name not in ended | going]
                if not left and not going:
                    return next(iter(failed.values()), DONE)
                # Another may be begun at once.
                looked = -_LOOK_SECONDS if _begin_first_free(left, launches) else time.monotonic()
            else:
                time.sleep(_ASK_SECONDS)
    return PREEMPTED


def is_finished(run: SweepRun) -> bool:
    """Whether a run's last stage has ended."""
    try:
        return run_is_finished(run.folder)
    except UserError:
        # A checkpoint that cannot be read: the launch sets it aside, and says so.
        return False


def _stop_for_good(launches: Launches, is_enough: Callable[[SweepRun], bool]) -> None:
    for launch in launches.going:
        if not launch.is_enough and is_enough(launch.run):
            launch.is_enough = True
            launch.stop()


def _note(launched: Launched, launches: Launches, failed: dict[str, int]) -> None:
    """Draw the consequence of a launch's end."""
    run, code = launched.run, launched.code
    if code == PREEMPTED:
        # Those that a signal has been passed on to already may be at their very end.
        if not launches.stopping:
            launches.stop()
    # A run that another machine trains, where locks do not reach so far, has not failed.
    elif (code != DONE or not is_finished(run)) and not folder_is_held(run.folder):
        failed[run.name] = code or 1


def _begin_first_free(runs: Sequence[SweepRun], launches: Launches) -> bool:
    """Launch the first of these runs that no other process trains; whether there was one."""
    for run in runs:
        locked = launches.lock(run)
        if locked is None:
            continue
        held, descriptor = locked
        # It may have been finished, and unlocked, since it was looked at. And a launch may go on
        # whose launcher was killed, or which is none of a sweep.
        if is_finished(run) or folder_is_held(run.folder):
            held.close()
            continue
        launches.begin(run, held, descriptor)
        return True
    return False
