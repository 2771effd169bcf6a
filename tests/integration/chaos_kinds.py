"""What is done to runs: each kind of fault, as one launch of an episode.

A kind is a function of the episode that draws moment, rank and number from its random generator. It
returns None where the kind cannot be had now.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tests.integration.chaos_launch import (
    MORE_SECONDS,
    PEER_SECONDS,
    Codes,
    Launch,
    PromiseError,
    group_of,
)
from tests.integration.faults import INJECTED, Fault
from tests.integration.launcher import Run

if TYPE_CHECKING:
    from tests.integration.chaos import Episode

Kind = Callable[["Episode"], Launch | None]
STOPPED, LOST, USER, NUMBERS, CRASHED, KILLED = 75, 71, 2, 3, 1, -9
_ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
_WHILE_TRAINING = ("training", "between micro-batches", "evaluating", "saving", "rolling back")
_LOST = "ended|cannot be reached|was not reached|waited"


def everyone(episode: Episode, code: int) -> Codes:
    return (code,) * episode.world


def one_lost(episode: Episode, rank: int) -> Codes:
    """One was killed; the others say so."""
    return tuple(KILLED if other == rank else LOST for other in range(episode.world))


def kill_all(episode: Episode) -> Launch:
    def act(run: Run) -> None:
        for pid in run.pids:
            os.kill(pid, signal.SIGKILL)

    return episode.launch_at(act, endings=[everyone(episode, KILLED)])


def kill_one(episode: Episode) -> Launch | None:
    if episode.world == 1:
        return None
    rank = episode.any_rank()
    return episode.launch_at(
        lambda run: os.kill(run.pids[rank], signal.SIGKILL),
        endings=[one_lost(episode, rank)],
        cause=_LOST,
    )


def kill_worker(episode: Episode) -> Launch:
    rank = episode.any_rank()

    def act(run: Run) -> None:
        workers = [pid for pid in group_of(run.pids[rank]) if pid != run.pids[rank]]
        os.kill(episode.random.choice(workers), signal.SIGKILL)

    return episode.launch_at(
        act,
        moments=("training", "between micro-batches"),
        endings=[everyone(episode, LOST)],
        cause="a process that prepares batches ended",
        num_workers=1,
    )


def ask(
    whom: Callable[[Episode], Sequence[int]], *, times: int = 1, with_workers: bool = False
) -> Kind:
    """A signal that asks to stop, to some ranks."""

    def kind(episode: Episode) -> Launch:
        numbers = [episode.random.choice(_ASKING) for _ in range(episode.world)]
        ranks = whom(episode)
        pause = episode.random.uniform(0.0, 0.9)

        def act(run: Run) -> None:
            send = os.killpg if with_workers else os.kill
            for again in range(times):
                time.sleep(pause * bool(again))
                for rank in ranks:
                    if run.exit_codes()[rank] is None:
                        send(run.pids[rank], numbers[rank])

        return episode.launch_at(
            act, endings=[everyone(episode, STOPPED)], cause="stopped on request"
        )

    return kind


def stop_forever(episode: Episode) -> Launch | None:
    if episode.world == 1:
        return None
    rank = episode.any_rank()

    def act(run: Run) -> None:
        os.kill(run.pids[rank], signal.SIGSTOP)
        begun = time.monotonic()
        while any(code is None for r, code in enumerate(run.exit_codes()) if r != rank):
            if time.monotonic() - begun > PEER_SECONDS + MORE_SECONDS:
                raise PromiseError(f"the other process waits on for one that is stopped ({rank})")
            time.sleep(0.01)
        os.kill(run.pids[rank], signal.SIGKILL)

    return episode.launch_at(
        act,
        moments=("starting", "building", *_WHILE_TRAINING, "ending a stage"),
        endings=[one_lost(episode, rank)],
        cause=_LOST,
    )


def stop_for_a_while(episode: Episode) -> Launch:
    """A process that is silent for less than its limit is waited for."""
    rank = episode.any_rank()

    def act(run: Run) -> None:
        os.kill(run.pids[rank], signal.SIGSTOP)
        time.sleep(PEER_SECONDS / 4)
        os.kill(run.pids[rank], signal.SIGCONT)
        time.sleep(0.05)
        os.kill(run.pids[rank], signal.SIGTERM)

    return episode.launch_at(
        act,
        moments=_WHILE_TRAINING,
        endings=[everyone(episode, STOPPED)],
        cause="stopped on request",
    )


def bad_numbers(kind: str, event: str) -> Kind:
    def launch(episode: Episode) -> Launch | None:
        first = episode.next_step()
        end = first + episode.max_skipped + 1
        if any(first < border <= end for border in episode.borders):
            return None  # a stage's end is saved, whatever its last updates were
        fault = Fault(
            kind=kind,  # type: ignore[arg-type]
            rank=episode.any_rank(),
            event=event,
            first=first,
            end=end,
        )
        return Launch(
            faults=[fault],
            endings=[everyone(episode, NUMBERS)],
            cause="not finite.*the last good checkpoint is|not finite.*there is no checkpoint yet",
            says="is skipped: ",
        )

    return launch


def exception(episode: Episode) -> Launch:
    return Launch(
        faults=[episode.fault_while_training("exception")],
        endings=[everyone(episode, CRASHED)],
        says=INJECTED,
        has_traceback=True,
    )


def user_error(episode: Episode) -> Launch:
    return Launch(
        faults=[episode.fault_while_training("user_error")],
        endings=[everyone(episode, USER)],
        cause=INJECTED,
    )


def another_recipe(episode: Episode) -> Launch | None:
    if episode.world == 1:
        return None
    values = (
        "optimizer.lr=2e-2",
        "seed=6",
        "data.mask_rate=0.2",
        "model.attention.rope.theta.global=5e3",
    )
    other = episode.random.choice(values)
    return Launch(
        own={episode.any_rank(): [other]},
        endings=[everyone(episode, USER)],
        cause=f"the processes do not have the same recipe.*{other.partition('=')[0]} is",
    )


def missing_corpus(episode: Episode) -> Launch:
    return Launch(
        own={episode.any_rank(): ["data.path=/nowhere/corpus"]},
        endings=[everyone(episode, USER)],
        cause="/nowhere/corpus",
    )


def second_launch(episode: Episode) -> Launch:
    def act(run: Run) -> None:
        second = episode.start(Launch(endings=[]))
        codes = tuple(second.wait_for_all(PEER_SECONDS + MORE_SECONDS))
        Launch(endings=[everyone(episode, USER)], cause="in use by another launch").check(
            codes, second.output
        )
        if None in run.exit_codes():
            os.kill(run.pids[0], signal.SIGTERM)

    return episode.launch_at(
        act,
        moments=("training", "evaluating"),
        endings=[everyone(episode, STOPPED)],
        cause="stopped on request",
    )


def full_disk(episode: Episode) -> Launch:
    first = episode.next_step()
    return Launch(
        faults=[Fault(kind="disk_full", rank=0, event="batch_start", first=first, end=1 << 30)],
        endings=[everyone(episode, USER)],
        cause="cannot be written: File too large",
    )


def full_disk_for_a_while(episode: Episode) -> Launch | None:
    first = episode.next_step()
    interval = episode.interval
    if any(first < border <= first + interval for border in episode.borders):
        return None  # a stage does not end without its checkpoint
    if episode.sickness == "jump":
        return None  # a roll-back goes to another checkpoint where one is missing
    if first + interval + 3 >= episode.borders[-1]:
        return None
    launch = kill_all(episode)
    launch.due = episode.marked
    launch.faults = [
        Fault(kind="disk_full", rank=0, event="batch_start", first=first, end=first + 1),
        # One checkpoint is due in between; it is written after the end of its update.
        Fault(
            kind="disk_free", rank=0, event="batch_start", first=first + interval + 1, end=1 << 30
        ),
        episode.mark("batch_start", first + interval + 2),
    ]
    launch.says = "warning: .*cannot be written: File too large.*training goes on, and tries"
    return launch


KINDS: dict[str, Kind] = {
    "SIGKILL to all": kill_all,
    "SIGKILL to one": kill_one,
    "SIGKILL to a loader's process": kill_worker,
    "a stop signal to one": ask(lambda episode: [episode.any_rank()]),
    "stop signals to all": ask(lambda episode: range(episode.world)),
    "stop signals to all and their loaders": ask(
        lambda episode: range(episode.world), with_workers=True
    ),
    "stop signals twice within a second": ask(lambda episode: range(episode.world), times=2),
    "SIGSTOP, for good": stop_forever,
    "SIGSTOP for 2 s, then SIGTERM": stop_for_a_while,
    "NaN in a gradient, lasting": bad_numbers("nan", "after_backward"),
    "an infinite loss, lasting": bad_numbers("infinite", "after_loss"),
    "an exception in a callback": exception,
    "a user's error in a callback": user_error,
    "another recipe on one": another_recipe,
    "no corpus on one": missing_corpus,
    "a second launch": second_launch,
    "a full disk": full_disk,
    "a full disk for one checkpoint": full_disk_for_a_while,
}
