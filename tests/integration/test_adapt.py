"""Going on with a model that transformers alone has made: ``yamls/adapt.yaml`` from its folder."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from flexbert.checkpoint.checkpoint_file import read_checkpoint
from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.errors import ConfigError
from flexbert.evaluation.evaluate_lm import evaluate_lm
from flexbert.evaluation.settings import LmRequest
from flexbert.huggingface.export import export_checkpoint
from flexbert.huggingface.importing import import_folder
from flexbert.plan.make_plan import make_plan
from flexbert.recipes import load_recipe
from flexbert.train.run import train
from tests.conftest import REPOSITORY, read_records, run_data_prep
from tests.huggingface.cases import read_json

pytestmark = pytest.mark.slow

ADAPT = REPOSITORY / "yamls" / "adapt.yaml"
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
FAMILIES: dict[str, Any] = {
    # Theta, window and eps are not those of the released model.
    "modernbert": transformers.ModernBertConfig(
        **SIZES,
        vocab_size=576,
        num_attention_heads=2,
        max_position_embeddings=192,
        global_rope_theta=160_000.0,
        local_attention=32,
        norm_eps=1e-6,
        pad_token_id=3,
        cls_token_id=1,
        sep_token_id=2,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "bert": transformers.BertConfig(
        **SIZES,
        vocab_size=576,
        num_attention_heads=2,
        max_position_embeddings=160,
        layer_norm_eps=1e-7,
        pad_token_id=3,
    ),
    # Positions begin at 2, behind the pad id's.
    "roberta": transformers.RobertaConfig(
        **SIZES,
        vocab_size=576,
        num_attention_heads=2,
        max_position_embeddings=130,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    ),
}
LENGTHS = {"modernbert": 192, "bert": 160, "roberta": 128}
# The learning rate is positive, and too small to change a weight in float32.
STILL = (
    *("duration=3ba", "batch.size=2", "precision=fp32", "data.num_workers=0"),
    *("evaluation={interval: 3ba, rows: 4}", "optimizer={lr: 1e-30, weight_decay: 0}"),
)


def train_tokenizer(
    text: Path, words: list[str], family: str = "modernbert"
) -> transformers.PreTrainedTokenizerFast:
    """Byte-level, for BERT WordPiece, for RoBERTa Unigram; ``words`` are tokens of it anyhow."""
    roles = {role: f"[{role.upper()}]" for role in ("unk", "cls", "sep", "pad", "mask")}
    trainer: Any
    if family == "bert":
        backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=True)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=512, special_tokens=[*roles.values()])
    elif family == "roberta":
        roles = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=512, special_tokens=[*roles.values()], unk_token="<unk>"
        )
    else:
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=512,
            special_tokens=[*roles.values(), *words],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
    texts = [json.loads(line)["text"] for line in text.read_text().splitlines()]
    backend.train_from_iterator(texts, trainer)
    ends = [(roles[role], backend.token_to_id(roles[role])) for role in ("cls", "sep")]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{roles['cls']} $A {roles['sep']}", special_tokens=ends
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **{f"{role}_token": token for role, token in roles.items()},
        model_max_length=LENGTHS[family],
        model_input_names=["input_ids", "attention_mask"],
    )


@pytest.fixture(scope="module")
def folders(text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each family, as ``save_pretrained`` writes it."""
    root = tmp_path_factory.mktemp("published")
    torch.manual_seed(1)
    for name, config in FAMILIES.items():
        transformers.AutoModelForMaskedLM.from_config(config).save_pretrained(root / name)
        train_tokenizer(text / "sources.jsonl", [], name).save_pretrained(root / name)
    return {name: root / name for name in FAMILIES}


@pytest.fixture(scope="module")
def corpora(
    text: Path, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Those made with a model's whole folder as their tokenizer, and one of as many other ids."""
    root = tmp_path_factory.mktemp("corpora")
    train_tokenizer(text / "sources.jsonl", ["import", " return"]).save_pretrained(root / "other")
    made = {**folders, "other": root / "other"}
    for name, tokenizer in made.items():
        out = ("--validation", 0.2, "--out", root / f"{name}-corpus", text, "--quiet")
        run_data_prep("corpus", "--tokenizer", tokenizer, *out)
    return {name: root / f"{name}-corpus" for name in made}


def overrides(folder: Path, corpus: Path, runs: Path, *more: str) -> list[str]:
    return [
        f"init_from.checkpoint={folder}",
        f"data.path={corpus}",
        f"runs_folder={runs}",
        *STILL,
        *more,
    ]


def their_loss(folder: Path, corpus: Path, run: Path) -> float:
    """The loss of evaluation by a loop over transformers, on the batches of the run's own split."""
    from flexbert.components import register_all
    from flexbert.config.decode import decode
    from flexbert.config.recipe import Recipe
    from flexbert.data.packing.loader import eval_loader
    from flexbert.stage_checks import open_corpora
    from tests.integration.recorded_runs import rows_of_batch

    register_all()
    recipe = decode(Recipe, read_checkpoint(list_checkpoints(run / "checkpoints")[0]).recipe)
    split = open_corpora(recipe).splits("validation")
    (name,) = split
    loader = eval_loader(
        split[name],
        recipe.data,
        mask_rate=recipe.evaluation.mask_rate,
        microbatch_rows=1,
        rank=0,
        world_size=1,
        max_rows=recipe.evaluation.rows,
    )
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    total, count = 0.0, 0
    for batch in loader:
        for ids, labels in rows_of_batch(batch, recipe.data.row_length):
            special = split[name].meta.special_ids
            starts = (ids == special.cls).nonzero().flatten().tolist()
            ends = ((ids == special.sep).nonzero().flatten() + 1).tolist()
            for start, end in zip(starts, ends, strict=True):
                with torch.no_grad():
                    logits = model(input_ids=ids[None, start:end].long()).logits[0]
                wanted = labels[start:end].long()
                chosen = wanted != -100
                total += torch.nn.functional.cross_entropy(
                    logits[chosen], wanted[chosen], reduction="sum"
                ).item()
                count += int(chosen.sum())
    return total / count


@pytest.mark.parametrize("family", FAMILIES)
def test_a_published_model_goes_on_and_is_exported_as_what_it_was(
    folders: dict[str, Path], corpora: dict[str, Path], tmp_path: Path, family: str
) -> None:
    folder = folders[family]
    loaded = load_recipe(ADAPT, overrides(folder, corpora[family], tmp_path))
    assert loaded.first.data.max_length == LENGTHS[family]
    assert make_plan(loaded).begins_from == folder
    assert train(loaded, command=["test"]) == 0
    run = loaded.first.run_folder
    first, *_, last = read_records(run, "eval")
    assert first["step"] == 0
    assert first["eval_loss"] == last["eval_loss"]
    assert math.isclose(first["eval_loss"], their_loss(folder, corpora[family], run), rel_tol=1e-4)
    # The command, on the run with what its recipe says, and on the folder with the same said.
    said = LmRequest(
        corpora={"own": corpora[family]},
        mask_rate=0.15,
        rows=4,
        max_length=loaded.first.data.max_length,
    )
    for where, request in ((run, LmRequest()), (folder, said)):
        found = evaluate_lm(where, request).score
        assert found.loss == pytest.approx(first["eval_loss"], rel=1e-5)
        assert found.accuracy == pytest.approx(first["eval_accuracy"])

    export_checkpoint(run, tmp_path / "out")
    ours, theirs = (
        transformers.AutoModelForMaskedLM.from_pretrained(where).eval()
        for where in (tmp_path / "out", folder)
    )
    # An update moves a zero by the learning rate, and no other number.
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=1e-27)
    config, before = read_json(tmp_path / "out/config.json"), read_json(folder / "config.json")
    # What computes; the rest says which release of transformers wrote it, or is another task's.
    computing = {
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "norm_eps"),
        *("num_attention_heads", "max_position_embeddings", "layer_norm_eps", "local_attention"),
        *("hidden_act", "hidden_activation", "rope_parameters", "layer_types", "pad_token_id"),
    }
    assert {key: config.get(key) for key in computing} == {
        key: before.get(key) for key in computing
    }
    texts = ["import os\n\ndef main():\n    return 1"]
    ids, old_ids = (
        transformers.AutoTokenizer.from_pretrained(where)(texts)["input_ids"]
        for where in (tmp_path / "out", folder)
    )
    assert ids == old_ids
    name = "tokenizer.json"
    assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()


def test_a_recipe_that_would_train_another_function_is_refused(
    folders: dict[str, Path], corpora: dict[str, Path], tmp_path: Path
) -> None:
    import_folder(str(folders["modernbert"]), tmp_path / "base.pt")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"include: [{REPOSITORY / 'yamls/quickstart.yaml'}]\n"
        f"runs_folder: {tmp_path}\n"
        "model: {vocab_size: 576, hidden_size: 32, num_layers: 3, attention.num_heads: 2,"
        " mlp.intermediate_size: 48}\n"
        f"init_from.checkpoint: {tmp_path / 'base.pt'}\n"
    )
    settings = [f"data.path={corpora['modernbert']}", "duration=1ba", "data.num_workers=0"]
    with pytest.raises(ConfigError) as error:
        train(load_recipe(recipe, settings), command=["test"])
    for part in (
        "model.attention.rope.theta.global is 10000.0, 160000.0 in the checkpoint",
        'model.attention.windows is {"repeat": ["global", 128, 128]}, ["global", 32, 32] in',
        "model.final_norm.eps is 1e-05, 1e-06",
        "init_from.architecture=checkpoint",
    ):
        assert part in str(error.value)
    # The YAML that import wrote is such a model.
    recipe.write_text(
        f"include: [{REPOSITORY / 'yamls/quickstart.yaml'}, base.yaml]\n"
        f"runs_folder: {tmp_path}\n"
        f"init_from.checkpoint: {tmp_path / 'base.pt'}\n"
        "data.row_length: 192\n"
    )
    assert make_plan(load_recipe(recipe, settings)).beginning_checked
    # What is named on the command line, or in the recipe, may differ, and is told.
    theta = "model.attention.rope.theta.global=20000"
    named = make_plan(load_recipe(recipe, [*settings, theta])).notes
    assert any("theta.global is 20000.0, 160000.0 in the checkpoint" in note for note in named)
    listed = "{changes: [model.attention.rope], checkpoint: %s}" % (tmp_path / "base.pt")
    recipe.write_text(recipe.read_text() + f"model.{theta[6:].replace('=', ': ')}\n")
    with pytest.raises(ConfigError, match=r"theta\.global"):
        make_plan(load_recipe(recipe, settings))
    assert make_plan(load_recipe(recipe, [*settings, f"init_from={listed}"])).beginning_checked


def test_a_corpus_of_other_ids_is_refused_or_its_rows_are_found_by_token(
    folders: dict[str, Path], corpora: dict[str, Path], tmp_path: Path
) -> None:
    folder = folders["modernbert"]
    asked = overrides(folder, corpora["other"], tmp_path)
    with pytest.raises(ConfigError, match=r"another tokenizer.*ids mean other tokens \(id 5 is"):
        train(load_recipe(ADAPT, asked), command=["test"])
    loaded = load_recipe(ADAPT, [*asked, "init_from.vocabulary=by_token"])
    assert train(loaded, command=["test"]) == 0
    checkpoint = read_checkpoint(list_checkpoints(loaded.first.run_folder / "checkpoints")[0])
    rows = checkpoint.model["encoder.embedding.tokens.weight"]
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder)
    old_rows = model.get_input_embeddings().weight
    new, old = (
        transformers.AutoTokenizer.from_pretrained(where)
        for where in (corpora["other"] / "tokenizer", folder)
    )
    old_ids = old.get_vocab()
    for token, number in new.get_vocab().items():
        if token in old_ids:
            torch.testing.assert_close(rows[number], old_rows[old_ids[token]], rtol=0, atol=0)
    cut = old(" return", add_special_tokens=False)["input_ids"]
    mean = old_rows[cut].mean(0)
    torch.testing.assert_close(rows[new.get_vocab()[" return"]], mean)
