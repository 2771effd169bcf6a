"""Each kind of tokenizer: what it gives back, what its options do, that it trains and exports."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from data_prep import tokenizer_kinds, training_text
from data_prep.cli import main
from data_prep.encoding import CorpusTokenizer
from data_prep.rows import Fields
from data_prep.sources import find_inputs
from data_prep.tokenizer_kinds import RUNS, TokenizerKind, _common_characters
from data_prep.training_text import EvenShare, TrainingText
from tests.conftest import REPOSITORY, TINY_RECIPE, run_data_prep

KINDS = ("bpe", "wordpiece", "unigram")
SIZE = 1024
LOSSLESS = (
    "def f(x):\n\treturn {'a': 1234567}\r\n",
    "  two  blanks   and behind ",
    "na\u0308ive caf\u00e9 \u4f60\u597d \u0645\u0631\u062d\u0628\u0627 \U0001f9d1\u200d\U0001f680",
    "[MASK] <0x41> [UNK] ##s",
    "x",
)


def arguments(kind: str, out: Path, *inputs: object) -> list[str]:
    options = ["tokenizer", "--model", kind, "--vocab-size", SIZE, "--unused", 8, "--quiet"]
    return [str(argument) for argument in (*options, "--out", out, *inputs)]


@pytest.fixture(scope="module")
def made(text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tokenizer of each kind, with digits apart; those that can, with code too."""
    root = tmp_path_factory.mktemp("kinds")
    for kind in KINDS:
        code = ["--code"] if kind != "wordpiece" else []
        assert main([*arguments(kind, root / kind, text), "--split-digits", *code]) == 0
    return {kind: root / kind for kind in KINDS}


def tokens_of(folder: Path, text: str) -> list[str]:
    backend = CorpusTokenizer(folder).backend
    return list(backend.encode(text, add_special_tokens=False).tokens)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_any_text_comes_back(made: dict[str, Path], kind: str) -> None:
    corpus_tokenizer = CorpusTokenizer(made[kind])
    for some in LOSSLESS:
        ids = corpus_tokenizer.backend.encode(some, add_special_tokens=False).ids
        assert corpus_tokenizer.backend.decode(ids, skip_special_tokens=False) == some
        assert not set(ids) & set(corpus_tokenizer.reserved_ids)


def test_wordpiece_gives_words_back(made: dict[str, Path]) -> None:
    loaded = AutoTokenizer.from_pretrained(made["wordpiece"])
    some = "The parser reads 2024 arguments, and returns None."
    assert loaded.decode(loaded(some).input_ids, skip_special_tokens=True) == some


@pytest.mark.parametrize("kind", KINDS)
def test_each_digit_is_a_token(made: dict[str, Path], kind: str) -> None:
    found = tokens_of(made[kind], "in 2024 and x123y 1.5")
    digits = [token for token in found if re.search(r"\d", token)]
    assert Counter("".join(digits).replace("##", "")) == Counter("2024123" + "15")
    assert all(re.fullmatch(r"(##)?\d", token) for token in digits)
    vocabulary = AutoTokenizer.from_pretrained(made[kind]).get_vocab()
    plain = [t for t in vocabulary if not re.fullmatch(r"\[unused\d+\]|<0x..>", t)]
    assert not [token for token in plain if re.search(r"\d.*\d", token)]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_runs_of_white_space_are_tokens_where_code_is_kept(
    made: dict[str, Path], kind: str
) -> None:
    for character, longest in RUNS.items():
        for length in range(2, longest + 1):
            found = tokens_of(made[kind], f"a{character * length}b")
            assert found[1] == character * length
    indented = "if x:\n        return 1\n\n\nelse:\n\t\tpass"
    assert tokens_of(made[kind], indented).count(" " * 8) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_and_size_are_as_asked(made: dict[str, Path], kind: str) -> None:
    loaded: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(made[kind])
    assert sorted(loaded.get_vocab().values()) == list(range(SIZE))
    assert sum(token.startswith("[unused") for token in loaded.get_vocab()) >= 8
    roles = [loaded.cls_token_id, loaded.sep_token_id, loaded.pad_token_id, loaded.mask_token_id]
    assert len({*roles, loaded.unk_token_id}) == 5
    ids = loaded("import x").input_ids
    assert (ids[0], ids[-1]) == (loaded.cls_token_id, loaded.sep_token_id)


def test_wordpiece_counts_what_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the quick brown fox jumps over " * 50 + "\u0915 \u0916 \u0917")
    characters = _common_characters(iter(["bbb aa c\n"]), 2)
    assert characters == ["a", "b"]
    out = tmp_path / "t"
    assert main([*arguments("wordpiece", out, tmp_path / "a.txt"), "--vocab-size", "64"]) == 0
    unknown = json.loads((out / "report.json").read_text())["fertility"]["unknown_tokens"]
    assert tokens_of(out, (tmp_path / "a.txt").read_text()).count("[UNK]") == unknown > 3
    assert tokens_of(out, "\u0915 \u0916 \u0917") == ["[UNK]"] * 3


def test_fertility_is_what_the_tokenizer_gives(made: dict[str, Path], text: Path) -> None:
    """All of a small text is tried, so its numbers are those of counting once more."""
    documents = [
        json.loads(line)["text"] for line in (text / "sources.jsonl").read_text().splitlines()
    ]
    for folder in made.values():
        report = json.loads((folder / "report.json").read_text())
        measured = report["fertility"]
        tokens = sum(len(tokens_of(folder, document[:20_000])) for document in documents)
        shown = [document[:20_000] for document in documents]
        assert report["documents"] == report["rows"] == len(documents)
        assert measured["tokens"] == tokens
        assert measured["words_per_token"] == sum(len(d.split()) for d in shown) / tokens
        assert measured["characters_per_token"] == sum(map(len, shown)) / tokens
        assert report["inputs"][f"{text.name}/*.jsonl"]["fertility"] == measured


def test_rejects_are_counted_by_input_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.txt").write_text("some text of words " * 20)
    (tmp_path / "bad.jsonl").write_text('{"text": "a b c"}\n{"text": 3}\nnot json\n')
    inputs = [tmp_path / "good.txt", tmp_path / "bad.jsonl"]
    assert main([*arguments("bpe", tmp_path / "t", *inputs), "--unused", "3"]) == 0
    report = json.loads((tmp_path / "t" / "report.json").read_text())
    assert report["inputs"]["bad.jsonl"]["rejects"] == {
        "invalid JSON": 1,
        "text field not a string": 1,
    }
    assert (report["rows"], report["documents"]) == (4, 2)
    printed = capsys.readouterr().out
    assert "rejected rows  1 invalid JSON, 1 text field not a string" in printed
    assert printed.index("good.txt ") < printed.index("bad.jsonl ") < printed.index("all ")


def test_a_sample_is_spread_over_all_inputs_and_always_the_same(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(100):
        (tmp_path / "many" / f"{number:03}.txt").write_text(f"{number:03} " + "x " * 2_000)
    lines = "".join(json.dumps({"text": f"{n} " + "y " * 500}) + "\n" for n in range(2_000))
    (tmp_path / "lines.jsonl").write_text(lines)
    inputs = find_inputs([tmp_path / "many", tmp_path / "lines.jsonl"])
    sampled = TrainingText(inputs, Fields(), sample=200_000, quiet=True)
    documents = list(sampled.documents())
    taken = sum(len(document) for document in documents)
    assert 200_000 <= taken < 220_000
    ys = [int(document.split()[0]) for document in documents if "y" in document]
    xs = [int(document.split()[0]) for document in documents if "x" in document]
    # A sixth of the text lies in the first input; both are gone through from end to end.
    assert 0.1 < sum(len(d) for d in documents if "x" in d) / taken < 0.25
    assert min(xs) < 20
    assert max(xs) > 80
    assert min(ys) < 400
    assert max(ys) > 1_500
    assert list(sampled.documents()) == documents
    whole = TrainingText(inputs, Fields(), sample=1 << 40, quiet=True)
    assert len(list(whole.documents())) == 2_100


def test_an_even_share_makes_up_for_what_it_took_too_much() -> None:
    share = EvenShare(0.1)
    taken = []
    for _ in range(1_000):
        share.enter(30)
        taken.append(share.take(30))
    assert sum(taken) == 100
    assert not any(first and second for first, second in itertools.pairwise(taken))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "wordpiece", "--code"], "--code: WordPiece drops white space"),
        (["--model", "unigram", "--vocab-size", "256"], "256 bytes"),
        (["--model", "bpf"], "invalid choice"),
        (["--sample", "2"], "--vocab-size"),
        (["--adapt", "x", "--code"], "--adapt takes no INPUT"),
    ],
)
def test_a_mistake_is_one_line(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    sizes = ["--vocab-size", "100"] if options[0] == "--sample" else []
    command = ["tokenizer", "--out", str(tmp_path / "t"), "--quiet", str(text), *options, *sizes]
    assert main(command) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert words in message
    assert not (tmp_path / "t").exists()


def test_options_of_training_are_refused_with_adapt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tokenizer", "--out", str(tmp_path / "t"), "--adapt", "x", "--sample", "1mb"]
    assert main(command) == 2
    assert "--sample is for a tokenizer that is trained" in capsys.readouterr().err


def test_learning_says_every_minute_that_it_goes_on(
    text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training_text, "LINE_SECONDS", 0.01)
    for quiet in (False, True):
        read = TrainingText(find_inputs([text]), Fields(), quiet=quiet)
        with read.waiting():
            tokenizer_kinds.learn(TokenizerKind(), read.texts, 2_000)
            # A small text is learned faster than a busy machine wakes the thread that says so.
            said, deadline = "", time.monotonic() + (0.2 if quiet else 30)
            while "learn:" not in said and time.monotonic() < deadline:
                time.sleep(0.01)
                said += capsys.readouterr().err
        assert ("learn: 0 min so far" in said.splitlines()) == (not quiet)


def test_an_unreadable_input_stops_unigram_in_its_own_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trainer is C++, and pulls the texts."""
    (tmp_path / "a.txt").write_text("good text of some words " * 100)
    (tmp_path / "b.parquet").write_bytes(b"no parquet at all")
    assert (
        main(arguments("unigram", tmp_path / "t", tmp_path / "a.txt", tmp_path / "b.parquet")) == 2
    )
    assert "b.parquet" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_text_gives_the_same_bytes_with_any_number_of_threads(
    tmp_path: Path, text: Path, kind: str
) -> None:
    """Each in a process of its own: hash tables differ between processes."""
    for threads in ("1", "2", "5"):
        command = [sys.executable, "-m", "data_prep", *arguments(kind, tmp_path / threads, text)]
        environment = {**os.environ, "RAYON_NUM_THREADS": threads}
        subprocess.run(command, check=True, cwd=REPOSITORY, env=environment, capture_output=True)
    files = [(tmp_path / threads / "tokenizer.json").read_bytes() for threads in ("1", "2", "5")]
    assert files[0] == files[1] == files[2]


MASKINGS = {"bpe": "{name: span}", "wordpiece": "{name: whole_word}", "unigram": "{name: span}"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_makes_a_corpus_trains_with_words_masked_and_exports(
    made: dict[str, Path], text: Path, tmp_path: Path, kind: str
) -> None:
    from flexbert.huggingface.export import export_checkpoint
    from flexbert.huggingface.tokenizer_agreement import disagreement
    from flexbert.recipes import load_recipe
    from flexbert.train.run import train

    corpus = tmp_path / "corpus"
    run_data_prep(
        *("corpus", "--tokenizer", made[kind], "--validation", 0.2, "--quiet"),
        *("--workers", 1, "--out", corpus, text),
    )
    assert {path.name for path in (corpus / "tokenizer").iterdir()} == {
        "tokenizer.json",
        "tokenizer_config.json",
    }
    overrides = [
        *(
            f"data.path={corpus}",
            f"runs_folder={tmp_path / 'runs'}",
            "duration=4ba",
            "schedule={warmup: 1ba, decay: 1ba}",
        ),
        *(f"model.vocab_size={SIZE}", f"data.masking={MASKINGS[kind]}", "data.num_workers=0"),
        "evaluation={interval: 4ba, rows: 4, masking: training}",
    ]
    loaded = load_recipe(TINY_RECIPE, overrides)
    assert train(loaded, command=["test"]) == 0
    export_checkpoint(loaded.first.run_folder, tmp_path / "out")
    files = {
        name: (tmp_path / "out" / name).read_text()
        for name in ("tokenizer.json", "tokenizer_config.json")
    }
    assert files["tokenizer.json"] == (corpus / "tokenizer" / "tokenizer.json").read_text()
    documents = [json.loads(line)["text"] for line in (text / "sources.jsonl").open()]
    assert disagreement(files, [*documents, *LOSSLESS], "modernbert") is None
