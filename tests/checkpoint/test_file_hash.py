"""Every damage to a checkpoint file is found before anything in it is believed."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import xxhash

from flexbert.checkpoint.checkpoint import Checkpoint
from flexbert.checkpoint.checkpoint_file import (
    CheckpointError,
    DamagedCheckpointError,
    read_checkpoint,
    write_checkpoint,
)
from flexbert.checkpoint.file_hash import file_digest
from tests.checkpoint.states import training_state

WEIGHTS = {f"layer.{index}.weight": torch.randn(24, 16) for index in range(6)}
CHECKPOINT = Checkpoint(
    recipe={"model": {"hidden_size": 8}},
    tokenizer={"tokenizer.json": "{}" * 400},
    model=WEIGHTS,
    training=training_state(moving_average=WEIGHTS),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "step-00000007.pt"
    write_checkpoint(path, CHECKPOINT)
    return path


def flips(whole: bytes) -> Iterator[bytes]:
    generator = random.Random(0)
    # Everywhere, and in the records at the end, of which a random place finds few.
    places = [generator.randrange(len(whole)) for _ in range(240)]
    places += [len(whole) - 1 - generator.randrange(200) for _ in range(60)]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << generator.randrange(8)
        yield bytes(damaged)


def holes(whole: bytes) -> Iterator[bytes]:
    generator = random.Random(1)
    for size in (16, 100, 512, 4096):
        for _ in range(20):
            begin = generator.randrange(len(whole) - size)
            damaged = whole[:begin] + bytes(size) + whole[begin + size :]
            if damaged != whole:  # what is zero already is not damaged
                yield damaged


def cuts(whole: bytes) -> Iterator[bytes]:
    generator = random.Random(2)
    yield from (whole[:length] for length in (0, 1, 100, len(whole) - 1, len(whole) - 41))
    yield from (whole[: generator.randrange(len(whole))] for _ in range(60))


def more(whole: bytes) -> Iterator[bytes]:
    yield whole + b"\0"
    yield b"\0" + whole
    yield whole + whole
    yield bytes(len(whole))
    yield whole[:2000] + whole[1000:]


@pytest.mark.parametrize("damage", [flips, holes, cuts, more])
def test_every_damage_is_one_error_that_names_the_file(path: Path, damage: object) -> None:
    assert callable(damage)
    read_checkpoint(path)
    count = 0
    for damaged in damage(path.read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(DamagedCheckpointError, match=path.name) as error:
            read_checkpoint(path)
        assert "\n" not in str(error.value)
        count += 1
    assert count >= 5


def test_the_hash_is_of_all_that_stands_before_it(path: Path) -> None:
    whole = path.read_bytes()
    digest = file_digest(path)
    assert digest == xxhash.xxh3_128(whole[:-41]).hexdigest()
    assert whole.endswith(digest.encode())
    write_checkpoint(path.with_name("b.pt"), Checkpoint(recipe={}, tokenizer={}, model={}))
    assert file_digest(path.with_name("b.pt")) not in (digest, None)


def test_anybody_reads_a_file_that_carries_its_hash(path: Path) -> None:
    for mapped in (False, True):
        plain = torch.load(path, weights_only=True, mmap=mapped)
        torch.testing.assert_close(plain["model"], WEIGHTS)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.comment == f"xxh3_128:{file_digest(path)}".encode()


def test_a_file_without_its_hash_is_refused(path: Path) -> None:
    torch.save(torch.load(path, weights_only=True), path)
    assert file_digest(path) is None
    with pytest.raises(DamagedCheckpointError, match="carries no hash"):
        read_checkpoint(path)


def test_another_version_of_the_format_is_not_called_damaged(path: Path) -> None:
    plain = torch.load(path, weights_only=True)
    torch.save({**plain, "format": 2}, path)
    with pytest.raises(CheckpointError, match="checkpoint format 2") as error:
        read_checkpoint(path)
    assert not isinstance(error.value, DamagedCheckpointError)


def test_a_file_that_was_verified_need_not_be_read_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flexbert.checkpoint.checkpoint_file.is_as_written", pytest.fail)
    assert read_checkpoint(path, verify=False).model.keys() == WEIGHTS.keys()


def test_a_disk_that_does_not_answer_is_no_damage(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> bool:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("flexbert.checkpoint.checkpoint_file.is_as_written", refused)
    with pytest.raises(CheckpointError, match="Input/output error") as error:
        read_checkpoint(path)
    assert not isinstance(error.value, DamagedCheckpointError)
