"""What a repository holds already, compared with what is to be in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from flexbert.publish.hub import MAIN, HubRepository
from flexbert.publish.revision_record import CARD, RECORD, TEXTS, RevisionRecord, text_digest
from flexbert.publish.run_checkpoints import RunCheckpoint

# What the Hub makes, and a person may put next to a model.
_NOT_A_MODEL = {".gitattributes", "LICENSE", "LICENSE.md", "LICENSE.txt"}


class State(StrEnum):
    """What is there of a revision.

    Attributes:
        THERE: all that would be written.
        TEXTS_DIFFER: its weights, and a card or a recipe that says something else by now.
        MISSING: nothing, or a branch that nothing was committed to.
        OLDER: ``main`` of this run, from another of its checkpoints.
        TAKEN: what somebody else, another run or another checkpoint has put there.
    """

    THERE = "is there"
    TEXTS_DIFFER = "is there; its texts are to be written again"
    MISSING = "is to be uploaded"
    OLDER = "is to be replaced by a newer checkpoint"
    TAKEN = "is taken"


@dataclass(frozen=True, kw_only=True)
class RevisionState:
    """What a repository holds under the name of a revision.

    Attributes:
        problem: whose it is, where it is taken.
        record: of what is there; None where there is none.
        head: the branch's commit; None where there is no branch.
    """

    state: State
    problem: str = ""
    record: RevisionRecord | None = None
    head: str | None = None


def compare(
    hub: HubRepository,
    branches: Mapping[str, str],
    branch: str,
    checkpoint: RunCheckpoint,
    texts: Mapping[str, str],
) -> RevisionState:
    """Look at one branch of a repository that is there.

    Args:
        branches: all, with their head commits.
        texts: what the card and the recipe are to say, by file name.
    """
    head = branches.get(branch)
    if head is None:
        return RevisionState(state=State.MISSING)
    if branch != MAIN and head == hub.first_commit:
        return RevisionState(state=State.MISSING, head=head)
    files = hub.files(head)
    if RECORD not in files:
        return _without_record(files, head)
    try:
        record = RevisionRecord.parse(hub.read(head, RECORD))
    except (KeyError, TypeError, ValueError):
        return RevisionState(
            state=State.TAKEN, problem=f"its {RECORD} is none of FlexBERT's", head=head
        )
    return _with_record(record, files, branch, checkpoint, texts, head)


def is_edited(hub: HubRepository, found: RevisionState) -> bool:
    """Whether somebody has changed the card since it was written."""
    if found.head is None or found.record is None or CARD not in found.record.files:
        return False
    if CARD not in hub.files(found.head):
        return False
    return text_digest(hub.read(found.head, CARD)) != found.record.files[CARD]


def _without_record(files: set[str], head: str) -> RevisionState:
    own = sorted(files - _NOT_A_MODEL)
    if not own:
        return RevisionState(state=State.MISSING, head=head)
    listed = ", ".join(own[:3]) + (", ..." if len(own) > 3 else "")
    return RevisionState(
        state=State.TAKEN, problem=f"it holds what FlexBERT did not publish ({listed})", head=head
    )


def _with_record(
    record: RevisionRecord,
    files: set[str],
    branch: str,
    checkpoint: RunCheckpoint,
    texts: Mapping[str, str],
    head: str,
) -> RevisionState:
    if record.run != checkpoint.run_name:
        state, problem = State.TAKEN, f"it is of the run {record.run}"
    elif record.checkpoint != checkpoint.digest:
        what = "of no step" if record.step is None else f"after update {record.step:,}"
        state, problem = State.TAKEN, f"it is another checkpoint of this run, {what}"
        if branch == MAIN:
            state = State.OLDER
    elif not record.files.keys() <= files:
        state, problem = State.MISSING, ""
    else:
        is_same = all(record.files.get(name) == text_digest(texts[name]) for name in TEXTS)
        state, problem = (State.THERE if is_same else State.TEXTS_DIFFER), ""
    return RevisionState(state=state, problem=problem, record=record, head=head)
