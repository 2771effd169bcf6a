"""The trials of a search, kept by Optuna in a journal that any number of processes share.

What Optuna decides: the values of a trial (its TPE sampler), and which of the trials that reach a
rung go on (its successive halving pruner). What is decided here: that whoever looks or asks holds
the study's lock, so that no more trials are begun than were asked for, and that the sampler's seed
is the search's and the trial's number, so that a search that was killed draws what it would have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from flexbert.config.tree import changed_keys
from flexbert.config.yaml_text import value_text
from flexbert.errors import UserError, first_line
from flexbert.files.durable import make_folder, write_errors
from flexbert.files.file_lock import file_lock
from flexbert.sweeps.outcomes import more_is_better
from flexbert.sweeps.points import Spread, SweepPoint, labelled_points
from flexbert.sweeps.search_space import RANDOM, AdaptiveSearch

if TYPE_CHECKING:
    import optuna

SEARCH = "search"
_JOURNAL, _LOCK, _STUDY = "journal.log", "study.lock", "search"
_SAID, _PROBLEM = "said", "problem"
State = Literal["open", "complete", "stopped", "bad"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A point that a search has drawn, and what came of it so far.

    Attributes:
        state: ``open`` until it has an end; ``complete``; ``stopped`` at a rung; ``bad`` where it
            has no number to compare it by.
        value: of the search's measure; the last one that was reported of a trial that was stopped.
            None where it is no finite number.
        at: tokens or updates, of that one.
        problem: why it is bad.
    """

    number: int
    point: SweepPoint
    state: State
    value: float | None
    at: int | None
    problem: str


def study_is_begun(folder: Path) -> bool:
    """Whether a sweep's folder has a study."""
    return (folder / SEARCH / _JOURNAL).is_file()


class Study:
    """A search's trials, in ``FOLDER/search``.

    Args:
        folder: of the sweep.
        measure, seeds: that trials are compared by; a study goes on with no others.

    Raises:
        UserError: if Optuna is missing, the journal cannot be read, or it is another search's.
    """

    def __init__(
        self,
        folder: Path,
        search: AdaptiveSearch,
        *,
        measure: str,
        seeds: Sequence[int],
    ) -> None:
        self.folder = folder / SEARCH
        self._search = search
        make_folder(self.folder)
        self._optuna = optuna = _optuna()
        with self._locked():
            storage = optuna.storages.JournalStorage(
                optuna.storages.journal.JournalFileBackend(str(self.folder / _JOURNAL))
            )
            self._study = optuna.create_study(
                storage=storage,
                study_name=_STUDY,
                direction="maximize" if more_is_better(measure) else "minimize",
                pruner=_pruner(optuna, search),
                load_if_exists=True,
            )
            said = {**_said(search), "measure": measure, "seeds": list(seeds)}
            begun_with = self._study.user_attrs.get(_SAID)
            if begun_with is None:
                self._study.set_user_attr(_SAID, said)
            else:
                _refuse_changed(self.folder, begun_with, said)

    def trials(self) -> list[Trial]:
        """All that were drawn, in their order."""
        with self._locked():
            found = self._study.get_trials(deepcopy=False)
            for trial in found:
                # Whoever drew it was killed between its first value and its last.
                if not trial.state.is_finished() and len(trial.params) < len(self._search.spreads):
                    self._draw(self._resumed(trial.number))
            return [self._trial(trial) for trial in self._study.get_trials(deepcopy=False)]

    def draw(self) -> bool:
        """Begin one more trial; whether there was one to begin."""
        with self._locked():
            number = len(self._study.get_trials(deepcopy=False))
            if number >= self._search.trials:
                return False
            self._study.sampler = self._sampler(number)
            self._draw(self._study.ask())
            return True

    def is_enough(self, number: int, reports: Mapping[int, float]) -> bool:
        """Whether a trial has reached a rung, and is not among the best there: it is stopped then.

        Args:
            reports: values by tokens or updates, whichever the rungs are in; those that are known
                already are passed over.
        """
        if self._search.halving is None:
            return False
        with self._locked():
            trial = self._resumed(number)
            known = self._study.get_trials(deepcopy=False)[number].intermediate_values
            for at in sorted(set(reports) - set(known)):
                trial.report(reports[at], at)
                if trial.should_prune():
                    # Kept before the run is stopped: a kill in between would lose the decision.
                    self._study.tell(number, state=self._optuna.trial.TrialState.PRUNED)
                    return True
        return False

    def end(self, number: int, value: float, problem: str = "") -> None:
        """What a trial came to; nan is worse than any number, and ``problem`` says why."""
        states = self._optuna.trial.TrialState
        with self._locked():
            trial = self._study.get_trials(deepcopy=False)[number]
            if trial.state.is_finished():
                return
            if math.isfinite(value):
                self._study.tell(number, value, state=states.COMPLETE)
                return
            self._resumed(number).set_user_attr(_PROBLEM, problem)
            self._study.tell(number, state=states.PRUNED)

    def end_as(self, number: int, other: Trial) -> None:
        """A trial that drew the point of another one, which has an end, has the same."""
        if other.state == "complete" and other.value is not None:
            self.end(number, other.value)
        else:
            problem = other.problem or f"was stopped as trial {other.number}"
            self.end(number, math.nan, problem)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with file_lock(self.folder / _LOCK), write_errors(self.folder / _JOURNAL):
            try:
                yield
            except (ValueError, KeyError) as error:
                # What Optuna says of a line that it cannot read, and of one that is cut.
                raise UserError(
                    f"{self.folder / _JOURNAL}: cannot be read as a search's ({first_line(error)})"
                ) from error

    def _resumed(self, number: int) -> optuna.Trial:
        trial = self._study.get_trials(deepcopy=False)[number]
        self._study.sampler = self._sampler(number)
        return self._optuna.Trial(self._study, trial._trial_id)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        own = np.random.SeedSequence([self._search.seed, number])
        seed = int(own.generate_state(1)[0])
        if self._search.sampler == RANDOM:
            return self._optuna.samplers.RandomSampler(seed=seed)
        # What others train counts as bad meanwhile, so that two draw no neighbours.
        return self._optuna.samplers.TPESampler(seed=seed, constant_liar=True)

    def _draw(self, trial: optuna.Trial) -> None:
        """Draw those of a trial's values that it has not."""
        for key, spread in self._search.spreads.items():
            if spread.kind == "choice":
                trial.suggest_categorical(key, [value_text(value) for value in spread.ends])
            elif spread.is_whole:
                trial.suggest_int(key, *spread.ends)
            else:
                trial.suggest_float(key, *spread.ends, log=spread.kind == "log")

    def _trial(self, trial: optuna.trial.FrozenTrial) -> Trial:
        values = {
            key: _value(spread, trial.params[key]) for key, spread in self._search.spreads.items()
        }
        (point,) = labelled_points([values])
        problem = trial.user_attrs.get(_PROBLEM, "")
        states: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "stopped", "FAIL": "bad"}
        state = states.get(trial.state.name, "open")
        value = trial.value
        if state != "complete":
            value = trial.intermediate_values.get(trial.last_step or 0)
        return Trial(
            number=trial.number,
            point=point,
            state="bad" if problem else state,
            value=value if value is not None and math.isfinite(value) else None,
            at=trial.last_step,
            problem=problem,
        )


def _value(spread: Spread, drawn: Any) -> Any:
    """What a recipe is given, of what Optuna keeps."""
    if spread.kind == "choice":
        return next(value for value in spread.ends if value_text(value) == drawn)
    return drawn if spread.is_whole else spread.rounded(drawn)


def _pruner(optuna: Any, search: AdaptiveSearch) -> optuna.pruners.BasePruner:
    if search.halving is None:
        return optuna.pruners.NopPruner()
    return optuna.pruners.SuccessiveHalvingPruner(
        min_resource=int(search.halving.first.value), reduction_factor=search.halving.factor
    )


def _said(search: AdaptiveSearch) -> dict[str, Any]:
    """What a search is told apart by, in JSON: how many trials it has may change."""
    halving = search.halving
    return {
        "search": {
            "sampler": search.sampler,
            "seed": search.seed,
            "keys": {
                key: {spread.kind: [value_text(end) for end in spread.ends]}
                for key, spread in search.spreads.items()
            },
            "halving": None
            if halving is None
            else {**asdict(halving), "first": halving.first.plain()},
        }
    }


def _refuse_changed(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    changed = [
        f"{key} ({before} -> {now})"
        for key, (before, now) in sorted(changed_keys(old, new).items())
    ]
    if changed:
        raise UserError(
            f"{folder} is of another search; changed: {', '.join(changed)}. Give the old values, "
            "or another --out; or remove it: runs of the same values stay, and are found again"
        )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UserError(
            "search: a sweep that searches needs Optuna: pip install 'optuna>=5'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
