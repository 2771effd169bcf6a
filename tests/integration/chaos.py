"""Episodes: one run, launched again and again while faults are injected, equals one left alone."""

from __future__ import annotations

import random
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flexbert.checkpoint.checkpoint_names import checkpoint_step, list_checkpoints
from flexbert.metrics_file import lines_of
from tests.integration.chaos_damage import CHECKPOINT, spoil_a_line, zeros
from tests.integration.chaos_kinds import KINDS
from tests.integration.chaos_launch import (
    PEER_SECONDS,
    Codes,
    Launch,
    PromiseError,
    kill_group,
    require_gone,
)
from tests.integration.faults import Fault, Kind
from tests.integration.injected import MARK
from tests.integration.killed_run import KilledRun, Outcome, assert_same_weights
from tests.integration.launcher import REPOSITORY, Launcher, Run

RECIPE = REPOSITORY / "tests" / "integration" / "chaos.yaml"
# Of the recipe: the steps at which stages end.
BORDERS = (34, 56)
INTERVAL, EVALUATION, MAX_SKIPPED = 5, 9, 2
# In every launch of a sick run the gradients of the first of these updates are not finite, or those
# of the second are far too large: of the update that ends before these rows of a stage's stream,
# which only the first stage's is long enough for.
SICK_STEP, JUMP_STEP = 17, 23
JUMP_ROWS = (3 * JUMP_STEP - 2, 3 * JUMP_STEP + 1)
SICKNESSES = (None, None, None, "nan", "jump")
SPIKES = "health.spikes={window: 12, threshold: 100, action: roll_back}"
ROLLING_BACK = "rolling back"
MOMENTS = (
    *("starting", "building", "training", "between micro-batches", "evaluating", "saving"),
    *("ending a stage", ROLLING_BACK),
)
DAMAGES = (*(f"checkpoint: {name}" for name in CHECKPOINT), "metrics", "order", "segment", "order")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A fault and how its launch ended.

    Attributes:
        lost: updates that the next launch has to train again.
    """

    seed: int
    kind: str
    world: int
    codes: Codes
    lost: int
    problem: str | None = None


class Episode:
    """A run of its own; everything that is drawn comes from the seed.

    Attributes:
        sickness: what is wrong with the run's numbers in every launch.
        saved: the step of the checkpoint that the next launch goes on from.
    """

    interval, max_skipped, borders = INTERVAL, MAX_SKIPPED, BORDERS

    def __init__(self, launcher: Launcher, corpus: Path, folder: Path, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.world = self.random.choice((1, 2))
        self.sickness = self.random.choice(SICKNESSES)
        self.run = new_run(launcher, corpus, folder, self.sickness)
        self.saved = 0
        self._has_full_disk = False
        # By their inodes: what is saved again in their place is sound.
        self._damaged: set[int] = set()
        self._lost_records: set[int] = set()

    # What kinds of faults draw from.

    def any_rank(self) -> int:
        return self.random.randrange(self.world)

    def next_step(self) -> int:
        """Of the updates to come, one before the run's end."""
        return min(self.saved + self.random.randrange(12), BORDERS[-1] - 1)

    def mark(self, event: str, first: int, microbatch: int | None = None) -> Fault:
        return Fault(
            kind="mark",
            rank=self.any_rank(),
            event=event,
            first=first,
            end=1 << 30,
            microbatch=microbatch,
        )

    def marked(self) -> bool:
        return (self.run.batches / MARK).exists()

    def fault_while_training(self, kind: Kind) -> Fault:
        event = self.random.choice(("batch_start", "after_forward", "before_backward", "batch_end"))
        first = self.next_step()
        return Fault(kind=kind, rank=self.any_rank(), event=event, first=first, end=1 << 30)

    def launch_at(
        self,
        act: Callable[[Run], None],
        endings: Sequence[Codes],
        *,
        moments: Sequence[str] = MOMENTS,
        cause: str | None = None,
        num_workers: int | None = None,
    ) -> Launch:
        """A launch that something is done to from outside, at a moment that is drawn."""
        # Where nothing is rolled back, or no more, the moment would not come.
        rolls_back = self.sickness == "jump" and self.saved < JUMP_STEP
        moment = self.random.choice([m for m in moments if m != ROLLING_BACK or rolls_back])
        step = self.next_step()
        workers = self.random.randrange(2) if num_workers is None else num_workers
        launch = Launch(act=act, endings=endings, cause=cause, num_workers=workers)
        launch.due = self.marked
        if moment == "starting":
            at = time.monotonic() + self.random.uniform(0.1, 1.5)
            launch.due = lambda: time.monotonic() > at
        elif moment == "building":
            self._forget_orders()
            launch.due = self.run.building
        elif moment == "training":
            launch.faults = [self.mark("batch_start", step)]
        elif moment == "between micro-batches":
            # Every rank has two at least.
            launch.faults = [self.mark("before_forward", step, microbatch=1)]
        elif moment == "evaluating":
            launch.faults = [self.mark("eval_batch_start", self.saved)]
        elif moment == "saving":
            launch.faults = [self.mark("batch_start", self.saved)]
            launch.due = lambda: self.marked() and self.run.saving()
        elif moment == ROLLING_BACK:
            before = self._spikes()
            launch.due = lambda: self._spikes() > before
        else:
            launch.faults = [self.mark("fit_end", self.saved)]
        return launch

    def _spikes(self) -> int:
        """How often a spike was noted."""
        file = self.run.run_folder / "health.jsonl"
        return file.read_text().count('"spike"') if file.exists() else 0

    # One fault after the other.

    def play(self, num_faults: int) -> list[Ended]:
        """Inject faults until the run ends, and compare it with one that was left alone."""
        ended: list[Ended] = []
        while len(ended) < num_faults and self.saved < BORDERS[-1]:
            kind, launch = self._draw()
            done = self._inject(kind, launch)
            if done is not None:
                ended.append(done)
                if done.problem:
                    return ended
        return ended

    def finish(self, expected: Outcome) -> None:
        """Launch it a last time.

        Raises:
            PromiseError: if it does not end as the run that was left alone.
        """
        launch = Launch(endings=[(0,) * self.world], says="finished|is finished")
        codes, _, output = self._run(launch)
        launch.check(codes, output)
        self._check_start(output)
        left = [*self.run.run_folder.rglob(".*.tmp"), *self.run.run_folder.glob(".lock")]
        if left:
            raise PromiseError(f"files are left behind: {left}")
        outcome = self.run.outcome()
        if outcome.batches != expected.batches:
            raise PromiseError("other batches than the run that was left alone")
        records = [r for r in expected.records if r[_STEP] not in self._lost_records]
        own = [r for r in outcome.records if r[_STEP] not in self._lost_records]
        if own != records:
            first = next((p for p in zip(own, records, strict=False) if p[0] != p[1]), None)
            raise PromiseError(f"{len(own)} of {len(records)} records; the first others: {first}")
        try:
            assert_same_weights(outcome.weights, expected.weights)
        except AssertionError as error:
            raise PromiseError(f"other weights: {error}") from None

    def start(self, launch: Launch) -> Run:
        """Start a launch of this run."""
        (self.run.batches / MARK).unlink(missing_ok=True)
        faults = [*launch.faults, *self._sickness()]
        return self.run.start(self.world, launch.num_workers, own=launch.own, faults=faults)

    def _draw(self) -> tuple[str, Launch]:
        if self.random.random() < 0.2 and (damage := self._damage()) is not None:
            return f"damage: {damage}", KINDS["SIGKILL to all"](self) or Launch(endings=[])
        while True:
            kind = self.random.choice(list(KINDS))
            if (launch := KINDS[kind](self)) is not None:
                return kind, launch

    def _inject(self, kind: str, launch: Launch) -> Ended | None:
        codes: Codes = ()
        before = self._trained()
        output, lost, problem = "", 0, None
        try:
            codes, fired, output = self._run(launch)
            if not fired or codes == (0,) * self.world:
                launch = replace(launch, endings=[(0,) * self.world], cause=None, says="")
                launch.has_traceback = False
            launch.check(codes, output)
            self._check_start(output)
            self._has_full_disk = any(fault.kind == "disk_full" for fault in launch.faults)
            lost = self._check_loss(codes, before)
            if not fired and not kind.startswith("damage"):
                return None
        except PromiseError as error:
            problem = f"{error}\n{output[-3000:]}"
        return Ended(
            seed=self.seed, kind=kind, world=self.world, codes=codes, lost=lost, problem=problem
        )

    def _run(self, launch: Launch) -> tuple[Codes, bool, str]:
        run = self.start(launch)
        try:
            codes, fired = launch.watch(run)
            require_gone(run.pids)
        except PromiseError as error:
            raise PromiseError(f"{error}\n{run.output[-3000:]}") from None
        finally:
            for pid in run.pids:
                kill_group(pid)
        return codes, fired, run.output

    def _check_start(self, output: str) -> None:
        """It went on from the newest checkpoint that is whole."""
        begun = re.search(r"continuing \S+ after update (\d+)", output)
        if begun and int(begun[1]) != self.saved:
            raise PromiseError(f"goes on after update {begun[1]}, not {self.saved}")

    def _check_loss(self, codes: Codes, before: int) -> int:
        """How many updates are lost; no more than an interval's, and none by a stop on request.

        Args:
            before: the last update that was recorded before the launch.
        """
        trained = self._trained()
        self.saved = max((checkpoint_step(path) for path in self._sound()), default=0)
        # A launch that did not come to train has lost nothing more.
        lost = max(0, trained - self.saved) if trained != before else 0
        allowed = 0 if codes == (75,) * self.world else INTERVAL + MAX_SKIPPED + 1
        # A disk that takes no checkpoints makes the last one older.
        if lost > allowed and not self._has_full_disk:
            raise PromiseError(f"{lost} updates are lost: {trained} trained, {self.saved} saved")
        return lost

    def _trained(self) -> int:
        """The last update that was recorded."""
        file = self.run.run_folder / "metrics.jsonl"
        if not file.exists():
            return 0
        return max((line.step for line in lines_of(file)[0]), default=0)

    def _sound(self) -> list[Path]:
        saved = list_checkpoints(self.run.run_folder / "checkpoints")
        return [path for path in saved if path.stat().st_ino not in self._damaged]

    def _forget_orders(self) -> None:
        for order in self.run.orders.glob("*.order"):
            order.unlink()  # as if this node had never had them

    def _sickness(self) -> list[Fault]:
        return sickness(self.sickness, self.world)

    def _damage(self) -> str | None:
        """Damage something; None where there is nothing to damage."""
        what = self.random.choice(DAMAGES)
        if what == "metrics":
            step = spoil_a_line(self.run.run_folder / "metrics.jsonl", self.random)
            self._lost_records |= {step} - {None}  # type: ignore[operator]
            return None if step is None else "a line of metrics.jsonl"
        if what == "order":
            files = list(self.run.orders.glob("*.order"))
        elif what == "segment":
            files = sorted((self.run.run_folder / "orders").glob("*.json"))
        else:
            return self._damage_checkpoint(what)
        if not files:
            return None
        zeros(self.random.choice(files), self.random)
        return f"zeros in the file of the {'run segment' if what == 'segment' else what}"

    def _damage_checkpoint(self, what: str) -> str | None:
        sound = self._sound()
        if len(sound) < 2:
            return None  # a run does not begin anew where it has lost all it had
        newest = sound[-1]
        # The end of a stage has two names.
        shutil.copyfile(newest, copy := newest.with_name("copy"))
        copy.replace(newest)
        CHECKPOINT[what.partition(": ")[2]](newest, self.random)
        self._damaged.add(newest.stat().st_ino)
        self.saved = checkpoint_step(sound[-2])
        return f"the newest {what}"


_STEP = 2  # of an outcome's records


def sickness(kind: str | None, world: int) -> list[Fault]:
    """What a sick run has in every launch: an update that is skipped, or rolled back."""
    if kind is None:
        return []
    if kind == "nan":
        ranks, (first, end) = [world - 1], (SICK_STEP, SICK_STEP + 1)
    else:
        ranks, (first, end) = list(range(world)), JUMP_ROWS
    return [
        Fault(kind=kind, rank=rank, event="after_backward", first=first, end=end)  # type: ignore[arg-type]
        for rank in ranks
    ]


def new_run(launcher: Launcher, corpus: Path, folder: Path, sickness: str | None) -> KilledRun:
    settings = [f"data.path={corpus}", f"timeouts={{peer: {PEER_SECONDS}, slow: 60}}"]
    if sickness == "jump":
        settings.append(SPIKES)
    return KilledRun(launcher, RECIPE, settings, folder)


def left_alone(
    launcher: Launcher, corpus: Path, folder: Path, *, world: int, sick: str | None
) -> Outcome:
    """What a run computes that nothing is done to."""
    run = new_run(launcher, corpus, folder, sick)
    started = run.start(world, 0, faults=sickness(sick, world))
    assert started.wait() == 0, started.output
    assert started.output.count("back from step") == (sick == "jump"), started.output
    return run.outcome()
