"""A run of a mixture: its records, and its provenance against the batches that it really used."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from flexbert.commands import main as flexbert
from flexbert.data.reading.corpus import Corpus
from flexbert.data.sampling.chunks import Chunks, Cut
from flexbert.errors import UserError
from flexbert.provenance.seen import Seen, Use, seen, seen_text
from flexbert.provenance.step_rows import step_rows
from flexbert.recipes import load_recipe
from flexbert.train.run import DONE, train
from tests.conftest import TINY_RECIPE, Overrides, read_records, run_data_prep
from tests.integration.recorded_runs import BatchRecorder

pytestmark = pytest.mark.slow

ROW_LENGTH = 128


@pytest.fixture(scope="module")
def second_corpus(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents that the first corpus does not have, some of them long."""
    folder = tmp_path_factory.mktemp("second")
    lines = [
        json.dumps({"text": f"document {n} says " + "more and " * (n % 40)}) for n in range(60)
    ]
    (folder / "more.jsonl").write_text("\n".join(lines) + "\n")
    run_data_prep(
        *("corpus", "--tokenizer", tokenizer, "--validation", 0.1, "--out", folder / "corpus"),
        *(folder / "more.jsonl", "--quiet"),
    )
    return folder / "corpus"


class Recorded:
    """A run of a mixture, and every batch it was trained on."""

    def __init__(self, folder: Path, batches: list[list[tuple[torch.Tensor, torch.Tensor]]]):
        self.folder = folder
        self.batches = batches


def run(overrides: list[str]) -> Recorded:
    loaded = load_recipe(TINY_RECIPE, overrides)
    recorder = BatchRecorder(ROW_LENGTH)
    assert train(loaded, command=["test"], callbacks=[recorder]) == DONE
    return Recorded(loaded.first.run_folder, recorder.updates)


@pytest.fixture(scope="module")
def mixture(
    corpus: Path, second_corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Recorded:
    folder = tmp_path_factory.mktemp("provenance")
    overrides = [
        f"data.sources.first={{path: {corpus}, weight: 2}}",
        f"data.sources.second={{path: {second_corpus}, weight: 1, upsample.lengths: {{'30': 3}}}}",
        f"runs_folder={folder}",
        "data.packing_window=16",
        "duration=40ba",
        "logging.interval=10ba",
    ]
    return run(overrides)


def seen_documents(run_folder: Path, corpora: list[Path]) -> Iterator[Seen]:
    for corpus in corpora:
        for document in range(Corpus.open(corpus).split("train").num_documents):
            yield seen(run_folder, corpus, document)


def test_what_is_said_to_be_seen_is_what_stood_in_the_batches(
    mixture: Recorded, corpus: Path, second_corpus: Path
) -> None:
    assert_all_is_accounted_for(mixture, [corpus, second_corpus])


def test_stages_schedules_and_restarts_are_looked_back_on_too(corpus: Path, tmp_path: Path) -> None:
    overrides = [
        f"data.path={corpus}",
        f"runs_folder={tmp_path}",
        "data.packing_window=16",
        "schedule={name: constant}",
        "batch={size: 8, warmup: {start: 2, duration: 6ba}}",
        "mask_rate_schedule={name: trapezoidal, warmup: 300tok, decay: 0.5dur}",
        "stages={one: {duration: 3000tok}, two: {duration: 5ba, data.max_length: 128}}",
        "stages.two.batch={size: 4, warmup: null}",
        "checkpoints.interval=1ba",
    ]
    whole = run(overrides)
    assert_all_is_accounted_for(whole, [corpus])
    start = whole.folder / "checkpoints" / "step-00000005.pt"
    again = run([*overrides, "run_name=again", f"start_from={start}"])
    assert len(again.batches) == len(whole.batches) - 5
    assert_all_is_accounted_for(again, [corpus], steps_before=5)


def masked_in(use: Use, labels: torch.Tensor) -> tuple[int, ...]:
    """The tokens of the document that the labels of a row ask for."""
    chosen = np.flatnonzero(labels[use.begin : use.end] != -100)
    return tuple((chosen - 1 + use.first_token).tolist())


def assert_all_is_accounted_for(run: Recorded, corpora: list[Path], steps_before: int = 0) -> None:
    """Every token of every batch, and every masked one, is accounted for by exactly one use."""
    accounted = Counter()
    for found in seen_documents(run.folder, corpora):
        split = Corpus.open(found.corpus).split("train")
        for use in found.uses:
            ids, labels = run.batches[use.step - 1 - steps_before][use.row]
            place = slice(use.begin, use.end)
            original = torch.where(labels == -100, ids, labels)[place][1:-1]
            chunk = (found.document, use.first_token, use.num_tokens)
            tokens = split.gather(*(np.array([number]) for number in chunk))
            np.testing.assert_array_equal(original, tokens)
            assert masked_in(use, labels) == use.masked
            accounted[use.step, use.row] += use.end - use.begin
    pad = Corpus.open(corpora[0]).meta.special_ids.pad
    for step, rows in enumerate(run.batches, 1 + steps_before):
        for row, (ids, _) in enumerate(rows):
            assert accounted[step, row] == (ids != pad).sum()


def test_records_tell_the_loss_and_the_epochs_of_each_source(
    mixture: Recorded, corpus: Path, second_corpus: Path
) -> None:
    sizes = {}
    for name, folder in (("first", corpus), ("second", second_corpus)):
        chunks = Chunks(Corpus.open(folder).split("train"), Cut(64))
        sizes[name] = chunks.num_tokens
    last = read_records(mixture.folder, "train")[-1]
    assert last["epochs"]["first"] == pytest.approx(last["tokens"] * 2 / 3 / sizes["first"], 1e-5)
    assert set(last["epochs"]) == {"first", "second/0-29", "second/30-"}
    assert 0 <= last["time_shares"]["data"] < 1
    evaluated = read_records(mixture.folder, "eval")[-1]
    losses = evaluated["eval_losses"]
    assert set(losses) == {"first", "second"}
    assert min(losses.values()) < evaluated["eval_loss"] < max(losses.values())


def test_a_plan_tells_the_epochs_of_each_source(
    mixture: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(mixture.folder / "config.yaml")
    assert flexbert(["plan", config, "--json"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    assert stage["steps"] == 40
    last = read_records(mixture.folder, "train")[-1]
    assert stage["tokens"] == last["tokens"]
    for name, epochs in last["epochs"].items():
        assert stage["sources"][name]["epochs"] == pytest.approx(epochs, rel=1e-4)
    assert flexbert(["plan", config]) == 0
    assert "second/30-: " in capsys.readouterr().out


def test_the_rows_of_a_step_are_shown_as_they_were_trained_on(
    mixture: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 17, 40):
        shown = step_rows(mixture.folder, step)
        assert len(shown.rows) == 3
        for sequences, (_, labels) in zip(shown.rows, mixture.batches[step - 1], strict=False):
            assert sum(len(sequence.masked) for sequence in sequences) == (labels != -100).sum()
    assert flexbert(["rows", str(mixture.folder), "17", "--characters", "20"]) == 0
    assert "row 2:" in capsys.readouterr().out
    assert flexbert(["rows", str(mixture.folder), "17", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["run"], printed["step"]) == (str(mixture.folder), 17)
    (sequence, *_), *_ = printed["rows"]
    assert set(sequence) == {
        *("source", "document", "first_token", "num_tokens", "masked", "text"),
    }
    assert flexbert(["rows", str(mixture.folder), "41"]) == 2
    assert "no step 41; it was trained from 1 to 40" in capsys.readouterr().err


def test_a_document_that_was_not_used_is_proven_so(
    tiny: Overrides, corpus: Path, second_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = run(tiny("duration=2ba", "data.packing_window=8", "schedule={name: constant}"))
    split = Corpus.open(corpus).split("train")
    results = [seen(recorded.folder, corpus, d) for d in range(split.num_documents)]
    unused = [result for result in results if not result.uses]
    assert 0 < len(unused) < len(results)
    assert "not used: no update was trained on any of it" in seen_text(unused[0])
    for result in unused:
        (order,) = result.orders
        assert order.drawn < order.of
    elsewhere = seen(recorded.folder, second_corpus, 0)
    assert elsewhere.uses == elsewhere.orders == ()
    assert "not used: no stage of this run draws from it" in seen_text(elsewhere)
    arguments = ["seen", str(corpus), "999999", "--run", str(recorded.folder)]
    assert flexbert(arguments) == 2
    assert "no document 999999" in capsys.readouterr().err


def test_what_was_seen_is_printed_as_json_too(
    mixture: Recorded, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = seen(mixture.folder, corpus, 3)
    assert flexbert(["seen", str(corpus), "3", "--run", str(mixture.folder), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == ["corpus", "document", "tokens", "uses", "orders"]
    assert printed["corpus"] == str(corpus)
    assert [use["masked"] for use in printed["uses"]] == [list(use.masked) for use in found.uses]
    assert [order["of"] for order in printed["orders"]] == [order.of for order in found.orders]


def test_a_lost_window_index_is_made_again(mixture: Recorded, corpus: Path) -> None:
    before = seen(mixture.folder, corpus, 3)
    (index,) = (mixture.folder / "orders").glob("*.windows")
    content = index.read_bytes()
    size = len(content) // 8
    for damaged in (b"", content[: size // 2], content[:200] + bytes(400) + content[600:]):
        index.write_bytes(damaged)
        assert seen(mixture.folder, corpus, 3) == before
    assert index.read_bytes() == content


def test_a_changed_corpus_is_refused_by_name_and_can_be_accepted(
    tiny: Overrides, corpus: Path, second_corpus: Path
) -> None:
    settings = ("data.packing_window=16", "logging.interval=1ba", "schedule={name: constant}")
    begun = run(tiny(*settings, "duration=8ba", "checkpoints.interval=4ba"))
    (begun.folder / "checkpoints" / "step-00000008.pt").unlink()
    for overrides, problem in (
        ([f"data.path={second_corpus}"], r"corpus\.documents .* corpus\.shards "),
        (["seed=6"], "changed: seed"),
        (["data.packing_window=17"], r"changed: data\.packing_window"),
    ):
        with pytest.raises(UserError, match=problem):
            run(tiny(*settings, "duration=8ba", *overrides))
    accept = "data.accept_changed_order=true"
    changed = run(tiny(*settings, "duration=8ba", "data.packing_window=17", accept))
    assert [record["step"] for record in read_records(begun.folder, "train")] == [*range(1, 9)]
    # A new order, which the order log tells apart from the old one.
    for step in range(1, 5):
        assert not torch.equal(begun.batches[step - 1][0][0], changed.batches[step - 1][0][0])
    batches = begun.batches[:4] + changed.batches
    uses = [use for found in seen_documents(begun.folder, [corpus]) for use in found.uses]
    assert {use.step for use in uses} == set(range(1, 9))
    for use in uses:
        _, labels = batches[use.step - 1][use.row]
        assert masked_in(use, labels) == use.masked
