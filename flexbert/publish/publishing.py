"""``flexbert publish``: the checkpoints of a run, each a revision of one repository on the Hub.

Killed at any moment, the same command goes on. A revision is made by one commit, so it is there
whole or not at all; what is there is known by the hash of its checkpoint.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from flexbert.config.duration import Duration
from flexbert.errors import UserError
from flexbert.files.durable import make_folder, write_errors
from flexbert.files.file_lock import file_lock
from flexbert.files.free_space import bytes_text
from flexbert.huggingface.export import export_checkpoint
from flexbert.publish.corpus_facts import corpus_facts
from flexbert.publish.hub import MAIN, HubRepository
from flexbert.publish.model_card import CardFacts, OwnText, model_card
from flexbert.publish.revision_record import (
    CARD,
    RECIPE,
    RECORD,
    RevisionRecord,
    hashed_folder,
    text_digest,
)
from flexbert.publish.revision_state import RevisionState, State, compare, is_edited
from flexbert.publish.run_checkpoints import (
    RunCheckpoint,
    chosen,
    main_checkpoint,
    run_checkpoints,
    stage_and_step,
)
from flexbert.publish.run_results import read_run_results

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class PublishRequest:
    """What is published, and where.

    Attributes:
        repository: ``OWNER/NAME``.
        every, stages: which checkpoints; see ``run_checkpoints.chosen``.
        main: the checkpoint that ``main`` is made from; the run's last if None.
        private: make a private repository.
        replace: write over revisions that hold something else.
        dry_run: upload nothing.
    """

    run_folder: Path
    repository: str
    every: Duration | None = None
    stages: Sequence[str] = ()
    main: Path | None = None
    private: bool = False
    replace: bool = False
    dry_run: bool = False
    own: OwnText = field(default_factory=OwnText)


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A branch as it is to be."""

    branch: str
    checkpoint: RunCheckpoint
    card: str
    found: RevisionState = RevisionState(state=State.MISSING)

    @property
    def texts(self) -> dict[str, str]:
        return {CARD: self.card, RECIPE: self.checkpoint.recipe.text}


def publish(request: PublishRequest, tell: Tell) -> None:
    """Upload what is missing, oldest first and ``main`` last.

    Args:
        tell: receives a line as soon as there is something to say.

    Raises:
        UserError: if there is anything in the way. What was uploaded before stays, and the same
            command goes on.
    """
    tell = _notes_once(tell)
    if not request.run_folder.is_dir():
        raise UserError(f"{request.run_folder}: no such run; give the folder of a run, runs/NAME")
    hub = HubRepository(request.repository, repeat=not request.dry_run)
    results = read_run_results(request.run_folder)
    checkpoints = run_checkpoints(request.run_folder, results.manifest.stages)
    last = checkpoints[-1]
    main = last if request.main is None else main_checkpoint(request.main, last)
    wanted = chosen(checkpoints, request.every, request.stages)
    if not last.is_end_of_run:
        tell(
            f"note: {request.run_folder}: the run has not reached its end; its last checkpoint is "
            f"{last.path.name}"
        )
    facts = CardFacts(
        repository=request.repository,
        results=results,
        corpora=corpus_facts(results.corpora()),
        own=request.own,
    )
    branches = _branches(hub, request, tell)
    revisions = [*_revisions(facts, wanted), _main(facts, main, wanted, branches or {})]
    if branches is not None:
        revisions = [
            replace(
                revision,
                found=compare(hub, branches, revision.branch, revision.checkpoint, revision.texts),
            )
            for revision in revisions
        ]
    if request.dry_run:
        _tell_plan(hub, revisions, request, tell)
    _refuse_taken(hub, revisions, request)
    if not request.dry_run:
        hub.create(private=request.private)
        with _workplace(request.run_folder) as folder:
            for revision in revisions:
                _bring(hub, revision, request, folder, tell)
        tell(hub.address)


def _notes_once(tell: Tell) -> Tell:
    """What every export has to say is said of the first."""
    told: set[str] = set()

    def once(line: str) -> None:
        if line not in told:
            tell(line)
        if line.startswith("note: "):
            told.add(line)

    return once


def _branches(hub: HubRepository, request: PublishRequest, tell: Tell) -> dict[str, str] | None:
    if not request.dry_run:
        hub.require_token()
        return hub.branches()
    try:
        return hub.branches()
    except UserError as error:
        tell(f"note: what is there already is not known: {error}")
        return None


def _revisions(facts: CardFacts, wanted: Sequence[RunCheckpoint]) -> Iterator[Revision]:
    for checkpoint in wanted:
        branch = checkpoint.revision
        card = model_card(facts, checkpoint, branch, [(branch, checkpoint.step or 0)])
        yield Revision(branch=branch, checkpoint=checkpoint, card=card)


def _main(
    facts: CardFacts,
    checkpoint: RunCheckpoint,
    wanted: Sequence[RunCheckpoint],
    branches: dict[str, str],
) -> Revision:
    """``main``, whose card lists every revision, those of earlier commands too."""
    steps = {each.revision: each.step or 0 for each in wanted}
    for branch in branches:
        if (named := stage_and_step(branch)) and named[0] in facts.results.manifest.stages:
            steps[branch] = named[1]
    places = sorted(steps.items(), key=lambda place: place[1])
    if checkpoint.step is not None and checkpoint.step not in steps.values():
        places.append((MAIN, checkpoint.step))
    return Revision(
        branch=MAIN, checkpoint=checkpoint, card=model_card(facts, checkpoint, None, places)
    )


def _refuse_taken(
    hub: HubRepository, revisions: Sequence[Revision], request: PublishRequest
) -> None:
    taken = [each for each in revisions if each.found.state is State.TAKEN]
    if taken and not request.replace:
        first = taken[0]
        others = f"; so are {len(taken) - 1} more" if len(taken) > 1 else ""
        raise UserError(
            f"{hub.address}: the revision {first.branch} is taken: {first.found.problem}{others}; "
            "give another NAME, or --replace to write over it"
        )


@contextmanager
def _workplace(run_folder: Path) -> Iterator[Path]:
    """An empty folder for exports, of one process at a time; a killed one's is cleared."""
    folder = run_folder / "publish"
    make_folder(folder)
    with write_errors(folder), file_lock(folder / ".lock", wait=False) as is_held:
        if not is_held:
            raise UserError(f"{run_folder}: another process is publishing it; wait for it")
        for left in folder.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _bring(
    hub: HubRepository, revision: Revision, request: PublishRequest, folder: Path, tell: Tell
) -> None:
    """Make a branch what it is to be."""
    found, branch = revision.found, revision.branch
    is_there = found.state is State.THERE
    if is_there and not (request.replace and is_edited(hub, found)):
        tell(f"{branch}: {found.state}")
        return
    texts = dict(revision.texts)
    hashes = {name: text_digest(text) for name, text in texts.items()}
    if not request.replace and found.record is not None and is_edited(hub, found):
        tell(f"note: {branch}: its {CARD} was changed there, and is kept; --replace writes ours")
        del texts[CARD]
        # What was written last, so that it is still known to be changed.
        hashes[CARD] = found.record.files[CARD]
    if found.record is not None and (is_there or found.state is State.TEXTS_DIFFER):
        _commit(hub, revision, {}, texts, {**found.record.files, **hashes})
        tell(f"{branch}: card and recipe are written again")
        return
    if branch != MAIN:
        hub.create_branch(branch)
    exported = _exported(revision.checkpoint, folder, tell)
    files = hashed_folder(exported)
    weights = {name: exported / name for name in files}
    commit = _commit(hub, revision, weights, texts, {**files, **hashes})
    tell(f"{branch}: uploaded {revision.checkpoint.path.name} as commit {commit[:12]}")


def _commit(
    hub: HubRepository,
    revision: Revision,
    weights: dict[str, Path],
    texts: dict[str, str],
    files: dict[str, str],
) -> str:
    checkpoint, before = revision.checkpoint, revision.found.record
    record = RevisionRecord(
        run=checkpoint.run_name,
        checkpoint=checkpoint.digest,
        stage=checkpoint.stage,
        step=checkpoint.step,
        tokens=checkpoint.tokens,
        files=files,
    )
    if not weights and before is not None:
        record = replace(record, flexbert=before.flexbert, transformers=before.transformers)
    content: dict[str, Path | bytes] = dict(weights)
    content |= {name: text.encode() for name, text in {**texts, RECORD: record.text()}.items()}
    what = "Card and recipe of" if not weights else "Add"
    old = set(before.files) - files.keys() if before is not None else set()
    return hub.commit(revision.branch, content, f"{what} {checkpoint.path.name}", sorted(old))


def _exported(checkpoint: RunCheckpoint, folder: Path, tell: Tell) -> Path:
    """A folder with a checkpoint's export; only the newest is kept, which ``main`` may be of."""
    target = folder / checkpoint.digest
    if not target.is_dir():
        for older in folder.iterdir():
            if older.is_dir():
                shutil.rmtree(older)
        for line in export_checkpoint(checkpoint.path, target):
            tell(line.replace(str(target), checkpoint.path.name))
    return target


def _tell_plan(
    hub: HubRepository, revisions: Sequence[Revision], request: PublishRequest, tell: Tell
) -> None:
    """What would be uploaded, and the card of ``main``."""
    tell(f"{hub.address}{' (private)' if request.private else ''}: nothing is uploaded")
    width = max(len(revision.branch) for revision in revisions)
    for revision in revisions:
        checkpoint, found = revision.checkpoint, revision.found
        place = (
            f"step {checkpoint.step:,}, {checkpoint.tokens:,} tokens"
            if checkpoint.step is not None
            else "an average"
        )
        problem = f" ({found.problem})" if found.problem else ""
        tell(
            f"  {revision.branch:<{width}}  {checkpoint.path.name}, {place}, "
            f"{bytes_text(checkpoint.weight_bytes)} of weights: {found.state}{problem}"
        )
    tell(f"{CARD} of {MAIN}:")
    tell(revisions[-1].card.rstrip())
