"""Fits have the heads that their models' architectures have in transformers, and are exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import transformers

from flexbert.commands import main
from flexbert.config.model import ModelConfig
from flexbert.pretrained.load_model import load_model
from flexbert.tasks.results import read_results
from tests.huggingface.cases import bert, eurobert, gte, nomicbert, roberta, write_model
from tests.tasks.cases import task_node, tiny_model, write_jsonl, write_suite

Family = Callable[..., ModelConfig]
TEXTS = ("classification", "regression", "token_classification")
MORE = (*TEXTS, "multiple_choice", "question_answering")
# RoBERTa's positions begin behind its padding, GTE and NomicBERT take no choices.
FAMILIES: dict[str, tuple[Family, tuple[str, ...]]] = {
    "modernbert": (tiny_model, MORE),
    "bert": (bert, MORE),
    "roberta": (roberta, MORE),
    "nomic_bert": (nomicbert, TEXTS),
    "gte": (gte, TEXTS),
    "eurobert": (eurobert, TEXTS),
}
CLASSES = {
    "classification": transformers.AutoModelForSequenceClassification,
    "regression": transformers.AutoModelForSequenceClassification,
    "token_classification": transformers.AutoModelForTokenClassification,
    "multiple_choice": transformers.AutoModelForMultipleChoice,
    "question_answering": transformers.AutoModelForQuestionAnswering,
}


def suite_of(folder: Path, kinds: tuple[str, ...]) -> Path:
    nodes = {kind: task_node(folder, kind, train=8, validation=4) for kind in kinds}
    return write_suite(folder, nodes, epochs=1, max_length=32)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_fit_of_any_family_is_exported(
    name: str, pair_tokenizer: Mapping[str, str], tmp_path: Path
) -> None:
    family, kinds = FAMILIES[name]
    model, target = tmp_path / "model.pt", tmp_path / "exported"
    write_model(model, family(), pair_tokenizer)
    command = ["evaluate", str(suite_of(tmp_path, kinds)), str(model), "--device", "cpu"]
    out = tmp_path / "out"
    assert main([*command, "--out", str(out), "--export", str(target)]) == 0
    for record in read_results(out):
        if record.mode != "fine_tune":
            continue
        theirs = CLASSES[record.task].from_pretrained(target / record.task).eval()
        assert theirs.config.model_type == name
        # As many as are loaded, each from the fit: what transformers draws anew would differ.
        ours = load_model(out / "weights" / f"{record.fit}.pt")
        ids = torch.tensor([[5, 20, 30, 41, 7]])
        batch = ids[:, None] if record.task == "multiple_choice" else ids
        with torch.no_grad():
            found = theirs(batch, attention_mask=torch.ones_like(batch))
            expected = ours(batch, torch.ones_like(batch))
        if record.task == "question_answering":
            logits = torch.stack([found.start_logits, found.end_logits], dim=-1)
        else:
            logits = found.logits
        torch.testing.assert_close(logits.view(-1), expected.view(-1), rtol=1e-4, atol=1e-4)


def test_a_head_that_transformers_has_not_ends_an_export_before_the_fits(
    pair_tokenizer: Mapping[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = tmp_path / "model.pt", tmp_path / "out"
    write_model(model, bert(), pair_tokenizer)
    suite = suite_of(tmp_path, ("classification",))
    command = ["evaluate", str(suite), str(model), "--device", "cpu", "--out", str(out)]
    pooled = [*command, "tasks.classification.grid.pooling=[cls, mean]"]
    assert main([*pooled, "--export", str(tmp_path / "exported")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "BERT, does not have: model.head.pooling" in line
    assert not out.exists()


def test_what_a_suite_says_of_pooling_counts(
    pair_tokenizer: Mapping[str, str], tmp_path: Path
) -> None:
    model, out = tmp_path / "model.pt", tmp_path / "out"
    write_model(model, bert(), pair_tokenizer)
    suite = suite_of(tmp_path, ("classification",))
    command = ["evaluate", str(suite), str(model), "--device", "cpu", "--out", str(out)]
    assert main([*command, "tasks.classification.grid.pooling=[cls, mean, null]"]) == 0
    values = {
        record.settings["pooling"]: record.predictions
        for record in read_results(out)
        if record.mode == "fine_tune"
    }
    contents = {pooling: (out / path).read_bytes() for pooling, path in values.items()}
    assert contents["cls"] == contents[None] != contents["mean"]


def test_a_tokenizer_with_more_tokens_than_the_model_does_not_stop_a_fit(
    pair_tokenizer: Mapping[str, str], tmp_path: Path
) -> None:
    # As long as none of them is in a text; an export is what needs them all.
    model = tmp_path / "model.pt"
    write_model(model, bert(vocab_size=60), pair_tokenizer)
    suite = suite_of(tmp_path, ("classification",))
    for split, count in (("train", 8), ("validation", 4)):
        rows = [{"text": f"w2{n} w30", "label": ("low", "top")[n % 2]} for n in range(count)]
        write_jsonl(tmp_path / f"classification-{split}.jsonl", rows)
    command = ["evaluate", str(suite), str(model), "--device", "cpu"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert main([*command, "--out", str(tmp_path / "x"), "--export", str(tmp_path / "y")]) == 2
