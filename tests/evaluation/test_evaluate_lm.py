"""``flexbert evaluate-lm`` against loops over padded sequences, one at a time."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flexbert import load_model
from flexbert.checkpoint.checkpoint import Checkpoint
from flexbert.checkpoint.checkpoint_file import write_checkpoint
from flexbert.commands import main
from flexbert.config.data import DataConfig
from flexbert.config.decode import decode
from flexbert.config.encode import encode
from flexbert.data.packing.loader import eval_loader
from flexbert.data.reading.corpora import Corpora
from flexbert.data.reading.corpus import Split
from flexbert.data.reading.split_documents import with_borders
from tests.checkpoint.tiling_cases import modernbert
from tests.conftest import run_data_prep
from tests.huggingface.cases import random_model

LENGTH = 48


@pytest.fixture(scope="module")
def second(text: Path, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another corpus of the same tokenizer, all of it for validation but a little."""
    folder = tmp_path_factory.mktemp("second") / "corpus"
    options = ("--tokenizer", tokenizer, "--validation", 0.9, "--out", folder, "--quiet")
    run_data_prep("corpus", *options, text)
    return folder


@pytest.fixture(scope="module")
def model(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that was trained, by what its checkpoint says, on 48 tokens of the corpus."""
    data = data_config(corpus)
    opened = Corpora.open(data)
    config = replace(modernbert(), vocab_size=opened.meta.vocab_size + 3)
    torch.manual_seed(0)
    recipe = {
        "model": encode(config),
        "data": encode(data),
        "precision": "fp32",
        "evaluation": {"interval": "1ba", "mask_rate": 0.3, "rows": 3},
    }
    path = tmp_path_factory.mktemp("model") / "model.pt"
    weights = random_model(config).state_dict()
    write_checkpoint(path, Checkpoint(recipe=recipe, tokenizer=opened.tokenizer, model=weights))
    return path


def data_config(corpus: Path, **more: object) -> DataConfig:
    tree = {
        "sampler": {"name": "pcg64dxsm"},
        "path": str(corpus),
        "max_length": LENGTH,
        "row_length": 2 * LENGTH,
        "mask_rate": 0.3,
        "num_workers": 0,
        **more,
    }
    return decode(DataConfig, tree)


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    assert main(["evaluate-lm", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def masked_losses(
    model: Path, split: Split, data: DataConfig, rate: float, rows: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Loss and position of every masked token, sequence by sequence, in float64."""
    network = load_model(model).double()
    losses, places = [], []
    loader = eval_loader(split, data, mask_rate=rate, microbatch_rows=1, max_rows=rows)
    for batch in loader:
        (row,) = batch["microbatches"]
        labels = torch.full_like(row["input_ids"], -100)
        labels[row["masked_positions"][: row["num_masked"]]] = row["labels"][: row["num_masked"]]
        borders = row["cu_seqlens"].tolist()
        for begin, end in itertools.pairwise(borders):
            ids, wanted = row["input_ids"][begin:end], labels[begin:end]
            if begin == end or not (wanted >= 0).any():
                continue
            with torch.no_grad():
                logits = network(ids[None], torch.ones_like(ids)[None])[0]
            log_probs = logits.log_softmax(-1)
            for place in (wanted >= 0).nonzero().flatten().tolist():
                losses.append(-log_probs[place, wanted[place]].item())
                places.append(place)
    return np.array(losses), np.array(places)


def test_a_run_is_evaluated_as_it_evaluates_itself(
    model: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = data_config(corpus)
    found = evaluated(capsys, model)
    split = Corpora.open(data).splits("validation")["corpus"]
    losses, places = masked_losses(model, split, data, 0.3, 3)
    assert found["score"]["masked_tokens"] == len(losses)
    assert found["score"]["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    for each in found["positions"]:
        inside = (places >= each["begin"]) & (places < each["end"])
        assert each["masked_tokens"] == inside.sum()
        assert each["loss"] == pytest.approx(losses[inside].mean(), rel=1e-5)


def test_corpora_lengths_and_rates_may_be_others_and_sources_add_up(
    model: Path, corpus: Path, second: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluated(
        *(capsys, model, "--corpus", f"a={corpus}", "--corpus", f"b={second}", "--mask-rate", 0.2),
        *("--max-length", 32, "--rows", 5, "--floors"),
    )
    assert list(found["sources"]) == ["a", "b"]
    total = count = 0.0
    for name, folder in (("a", corpus), ("b", second)):
        # Rows stay as long as the run's.
        data = data_config(folder, max_length=32)
        split = Corpora.open(data).splits("validation")["corpus"]
        losses, _ = masked_losses(model, split, data, 0.2, 5)
        source = found["sources"][name]
        assert source["score"]["masked_tokens"] == len(losses)
        assert source["score"]["loss"] == pytest.approx(losses.mean(), rel=1e-5)
        total, count = total + losses.sum(), count + len(losses)
        # A random model knows nothing; text has neighbours.
        floors = source["floors"]
        assert floors["neighbours"] < floors["unigram"] < source["score"]["loss"]
    assert found["score"]["loss"] == pytest.approx(total / count, rel=1e-5)


@pytest.mark.slow
def test_pseudo_perplexity_masks_each_token_alone(
    model: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluated(capsys, model, "--rows", "all", "--pseudo-perplexity", 10_000)
    pseudo = found["sources"]["corpus"]["pseudo_perplexity"]
    network = load_model(model)
    split = Corpora.open(data_config(corpus)).splits("validation")["corpus"]
    mask = split.meta.special_ids.mask
    total = tokens = sequences = 0
    for document in with_borders(split):
        whole = torch.from_numpy(document.astype(np.int64))
        cls, content, sep = whole[:1], whole[1:-1], whole[-1:]
        for part in content.split(LENGTH - 2):
            ids = torch.cat([cls, part, sep])
            copies = ids.repeat(len(part), 1)
            rows = torch.arange(len(part))
            copies[rows, rows + 1] = mask
            with torch.no_grad():
                logits = network(copies, torch.ones_like(copies))[rows, rows + 1]
            total += torch.nn.functional.cross_entropy(
                logits.double(), part, reduction="sum"
            ).item()
            tokens, sequences = tokens + len(part), sequences + 1
    assert (pseudo["tokens"], pseudo["sequences"]) == (tokens, sequences)
    assert pseudo["loss"] == pytest.approx(total / tokens, rel=1e-5)
    assert pseudo["perplexity"] == pytest.approx(math.exp(total / tokens), rel=1e-4)


def test_the_text_has_the_numbers(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate-lm", str(model), "--floors", "--pseudo-perplexity", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) < 200
    for start in (
        "loss ",
        "perplexity ",
        "accuracy ",
        "unigram ",
        "neighbour ",
        "pseudo-",
        "0-31 ",
    ):
        assert sum(line.startswith(start) for line in lines) == 1


def test_what_cannot_be_evaluated_is_one_line(
    model: Path, corpus: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusal(*arguments: object) -> str:
        try:
            code = main(["evaluate-lm", *map(str, arguments)])
        except SystemExit as stopped:
            code = stopped.code
        assert code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "names no corpus to evaluate on; give --corpus" in refusal(trained)
    assert "its tokenizer has" in refusal(trained, "--corpus", corpus)
    assert "no split 'test'" in refusal(model, "--split", "test")
    assert "'0' is not a share" in refusal(model, "--mask-rate", "0")
    assert "'some' is not a positive whole number" in refusal(model, "--rows", "some")
    assert "is there already; give NAME=" in refusal(model, "--corpus", corpus, "--corpus", corpus)
    assert "--device" in refusal(model, "--device", "cuda:99")
    assert str(tmp_path) in refusal(model, "--corpus", tmp_path)
    assert "max_length" in refusal(model, "--max-length", 2)
