"""Batches, sources and splits of which nothing can be predicted: said, and never divided by."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from composer.utils import dist

from data_prep.cli import main
from flexbert.config.training import IGNORE
from flexbert.nn.cross_entropy import token_scores
from flexbert.nn.logits import DeferredLogits
from flexbert.nn.loss import CrossEntropyConfig
from flexbert.recipes import load_recipe
from flexbert.train import run
from flexbert.train.masked_metrics import MaskedAccuracy, MaskedLoss
from flexbert.train.run_log import _score, _summed
from tests.conftest import TINY_RECIPE, read_records
from tests.huggingface.forty_tokenizers import FORTY

VOCABULARY, FEATURES = 13, 5


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_masked_losses_and_scores_are_means_or_none(seed: int) -> None:
    """Against a mean in float64 over the labels of all micro-batches."""
    generator = torch.Generator().manual_seed(seed)
    # None in a quarter of the cases; in others often none in a micro-batch.
    rate = [0.0, 0.05, 0.3, 1.0][seed % 4]
    matrix = torch.randn(VOCABULARY, FEATURES, generator=generator, requires_grad=True)
    loss, accuracy = MaskedLoss(), MaskedAccuracy()
    expected: list[float] = []
    for _ in range(3):
        count = int(torch.randint(0, 9, (), generator=generator))
        features = torch.randn(count, FEATURES, generator=generator, requires_grad=True)
        labels = torch.randint(VOCABULARY, (count,), generator=generator)
        labels[torch.rand(count, generator=generator) >= rate] = IGNORE
        logits = DeferredLogits(features, matrix, None, torch.float32)
        own = CrossEntropyConfig()(logits, labels)
        own.backward()  # type: ignore[no-untyped-call]
        assert features.grad is not None
        assert bool(features.grad.isfinite().all())
        scores = token_scores(logits, labels)
        loss.update(scores)
        accuracy.update(scores)
        log_probs = (features.double() @ matrix.double().T).log_softmax(-1)
        losses = [-log_probs[i, label].item() for i, label in enumerate(labels) if label >= 0]
        assert own.item() == pytest.approx(math.fsum(losses) / max(1, len(losses)), abs=1e-5)
        expected += losses
    assert matrix.grad is not None
    assert bool(matrix.grad.isfinite().all())
    dist.initialize_dist("cpu")
    found = _score({"loss": _summed(loss), "accuracy": _summed(accuracy)})
    if not expected:
        assert found.loss is found.accuracy is None
    else:
        assert found.loss == pytest.approx(math.fsum(expected) / len(expected), abs=1e-5)
        assert found.accuracy is not None
        assert 0 <= found.accuracy <= 1


def corpus_of(folder: Path, name: str, texts: list[str]) -> Path:
    """A corpus by a tokenizer to which every word of another script is unknown."""
    tokenizer, inputs, corpus = (folder / f"{name} {part}" for part in ("t", "in", "corpus"))
    FORTY["wordpiece lower"].write(tokenizer)
    inputs.mkdir()
    lines = [json.dumps({"text": text}) for text in texts]
    (inputs / "texts.jsonl").write_text("\n".join(lines) + "\n")
    command = ["corpus", "--tokenizer", tokenizer, "--validation", 0.3, "--quiet"]
    assert main([str(a) for a in (*command, "--workers", 1, "--out", corpus, inputs)]) == 0
    return corpus


@pytest.mark.slow
def test_updates_and_evaluations_without_anything_to_predict_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One row an update: those of unknown tokens alone are skipped, the others train."""
    unknown = [f"{'क ' * 14}{'ख' * n}" for n in range(1, 40)]
    known = [f"the cat sat on the mat and looked at people {n}" for n in range(12)]
    corpus = corpus_of(tmp_path, "mixed", [*unknown, *known])
    loaded = load_recipe(
        TINY_RECIPE,
        [
            f"data={{path: '{corpus}', max_length: 16, row_length: 16}}",
            f"runs_folder={tmp_path / 'runs'}",
            "model.vocab_size=192",
            "batch={size: 1, microbatch_rows: 1}",
            "duration=20ba",
            "health.max_skipped=20",
            # Of the first row alone, and so few that none may be masked.
            "evaluation={interval: 10ba, rows: 1, mask_rate: 0.0001}",
        ],
    )
    capsys.readouterr()
    assert run.train(loaded, command=["test"]) == run.DONE
    printed = capsys.readouterr().out
    assert "is skipped: none of its 1 rows has a token to predict" in printed
    assert "nothing to predict: no token of it was masked" in printed
    trained, evaluated = (read_records(loaded.first.run_folder, e) for e in ("train", "eval"))
    assert 0 < trained[-1]["skipped_updates"] < 20
    assert {record["eval_loss"] for record in evaluated} == {None}
    losses = [record["loss"] for record in trained if record["loss"] is not None]
    assert losses
    assert all(0 < loss < 10 for loss in losses)
