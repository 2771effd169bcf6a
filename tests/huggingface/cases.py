"""Small models of each Hugging Face family, with every head, and what tests do with them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn

from flexbert.checkpoint.checkpoint import Checkpoint
from flexbert.checkpoint.checkpoint_file import write_checkpoint
from flexbert.config.encode import encode
from flexbert.config.model import ModelConfig
from flexbert.huggingface.families import family_for
from flexbert.huggingface.family import Facts
from flexbert.huggingface.tokenizer import of_older_transformers
from flexbert.nn.attention import MultiHeadConfig
from flexbert.nn.block import PostNormConfig, PreNormConfig
from flexbert.nn.build import build_model
from flexbert.nn.classification import (
    MultipleChoiceConfig,
    QuestionAnsweringConfig,
    SequenceClassificationConfig,
    TokenClassificationConfig,
)
from flexbert.nn.embedding import TokenEmbeddingConfig
from flexbert.nn.head import MLMHeadConfig
from flexbert.nn.init import NormalConfig
from flexbert.nn.mlp import GLUConfig, PlainMLPConfig
from flexbert.nn.norm import LayerNormConfig, RMSNormConfig
from flexbert.nn.positions import LearnedPositionsConfig
from flexbert.nn.rope import RopeConfig
from tests.nn.cases import VOCAB_SIZE, small_model

# Not where any released tokenizer has them; RoBERTa's positions count from the pad id.
SPECIAL = {"[CLS]": 5, "[PAD]": 1, "[SEP]": 7, "[MASK]": 8, "[UNK]": 9}
FACTS = Facts(
    special_ids={"pad": 1, "cls": 5, "sep": 7, "mask": 8, "bos": None, "eos": None, "unk": 9},
    max_length=48,
)
NORM = LayerNormConfig(eps=1e-12, bias=True)
# A gated MLP before a norm of its output multiplies rounding errors where weights are larger.
GENTLE = NormalConfig(std=0.2)


def bert(**changes: Any) -> ModelConfig:
    """BERT in small."""
    fields: dict[str, Any] = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 32,
        "num_layers": 3,
        "embedding": TokenEmbeddingConfig(
            positions=LearnedPositionsConfig(length=48), token_types=2, norm=NORM, dropout=0.1
        ),
        "block": PostNormConfig(norm=NORM),
        "attention": MultiHeadConfig(num_heads=4, bias=True, dropout=0.2, output_dropout=0.1),
        "mlp": PlainMLPConfig(intermediate_size=48, bias=True, output_dropout=0.1),
        "final_norm": None,
        "head": MLMHeadConfig(norm=NORM, bias=True),
        "init": NormalConfig(std=0.4),
    }
    return ModelConfig(**fields | changes)


def roberta(**changes: Any) -> ModelConfig:
    """RoBERTa in small."""
    embedding = TokenEmbeddingConfig(
        positions=LearnedPositionsConfig(length=48, offset=2), token_types=1, norm=NORM, dropout=0.1
    )
    return bert(**{"embedding": embedding, **changes})


def nomicbert(**changes: Any) -> ModelConfig:
    """NomicBERT in small, without biases in its head, as it was released."""
    return bert(
        **{
            "embedding": TokenEmbeddingConfig(token_types=2, norm=NORM, dropout=0.1),
            "attention": MultiHeadConfig(
                num_heads=4,
                rope=RopeConfig(theta={"global": 1000.0}),
                dropout=0.2,
                output_dropout=0.1,
            ),
            "mlp": GLUConfig(intermediate_size=48, activation="silu", output_dropout=0.1),
            "head": MLMHeadConfig(norm=NORM, activation="silu", decoder_bias=False),
            "init": GENTLE,
            **changes,
        }
    )


def gte(**changes: Any) -> ModelConfig:
    """GTE in small, without token types, as its base size is."""
    return bert(
        **{
            "embedding": TokenEmbeddingConfig(norm=NORM, dropout=0.1),
            "attention": MultiHeadConfig(
                num_heads=4,
                rope=RopeConfig(theta={"global": 500.0}),
                bias=True,
                dropout=0.2,
                output_dropout=0.1,
            ),
            "mlp": GLUConfig(
                intermediate_size=48, output_bias=True, dropout=0.1, output_dropout=0.1
            ),
            "init": GENTLE,
            **changes,
        }
    )


def eurobert(**changes: Any) -> ModelConfig:
    """EuroBERT in small, with grouped queries, as its larger sizes are."""
    norm = RMSNormConfig(eps=1e-5)
    fields: dict[str, Any] = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 32,
        "num_layers": 3,
        "embedding": TokenEmbeddingConfig(),
        "block": PreNormConfig(norm=norm),
        "attention": MultiHeadConfig(
            num_heads=4, num_kv_heads=2, rope=RopeConfig(theta={"global": 250_000.0}), dropout=0.2
        ),
        "mlp": GLUConfig(intermediate_size=48, activation="silu"),
        "final_norm": norm,
        "head": MLMHeadConfig(
            dense=False, activation=None, norm=None, tied=False, decoder_bias=False
        ),
        "init": NormalConfig(std=0.4),
    }
    return ModelConfig(**fields | changes)


PLAIN: dict[str, Any] = {"dense": False, "activation": None, "norm": None}
POOLED: dict[str, Any] = {"bias": True, "activation": "tanh", "norm": None}
GELU: dict[str, Any] = {"bias": True, "activation": "gelu", "norm": None}
# For each task the head that ModernBERT has, the one that EuroBERT has, and that of the others.
HEADS: dict[str, dict[str, Any]] = {
    "sequence_classification": {
        "modernbert": SequenceClassificationConfig(
            num_labels=3, pooling="mean", norm=LayerNormConfig()
        ),
        "eurobert": SequenceClassificationConfig(num_labels=3, pooling="mean", **GELU),
        "bert": SequenceClassificationConfig(num_labels=3, dropout=0.1, **POOLED),
    },
    "token_classification": {
        "modernbert": TokenClassificationConfig(num_labels=5, bias=True, norm=LayerNormConfig()),
        "eurobert": TokenClassificationConfig(num_labels=5, **PLAIN),
        "bert": TokenClassificationConfig(num_labels=5, dropout=0.1, **PLAIN),
    },
    "multiple_choice": {
        "modernbert": MultipleChoiceConfig(
            pooling="cls", activation="silu", norm=LayerNormConfig()
        ),
        "bert": MultipleChoiceConfig(dropout=0.1, **POOLED),
    },
    "question_answering": {
        "modernbert": QuestionAnsweringConfig(bias=True, dropout=0.1, norm=LayerNormConfig()),
        "bert": QuestionAnsweringConfig(**PLAIN),
    },
}
MAKERS: dict[str, Callable[..., ModelConfig]] = {
    "modernbert": small_model,
    "bert": bert,
    "roberta": roberta,
    "nomicbert": nomicbert,
    "gte": gte,
    "eurobert": eurobert,
}
# transformers has no multiple choice and no question answering for the newer three.
WITH_CHOICE = ("modernbert", "bert", "roberta")
# Those with a masked-LM head.
SAVED: dict[str, ModelConfig] = {name: make() for name, make in MAKERS.items()}
MODELS: dict[str, ModelConfig] = {
    **SAVED,
    **{
        f"{name} {task}": make(head=heads.get(name, heads["bert"]))
        for name, make in MAKERS.items()
        for task, heads in HEADS.items()
        if task not in ("multiple_choice", "question_answering") or name in WITH_CHOICE
    },
}


def random_model(config: ModelConfig) -> nn.Module:
    """A model without any parameter at zero or one, where an init would leave it."""
    model = build_model(config)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.3)
    return model


def tokenizer_files(folder: Path) -> dict[str, str]:
    """A tokenizer of as many words as models have tokens, written to ``folder``."""
    words = {f"w{index}": index for index in range(VOCAB_SIZE)}
    by_id = {index: word for word, index in words.items()} | {v: k for k, v in SPECIAL.items()}
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in by_id.items()}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 5), ("[SEP]", 7)]
    )
    roles = {f"{name.strip('[]').lower()}_token": name for name in SPECIAL}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=48,
        model_input_names=["input_ids", "attention_mask"],
        **roles,
    ).save_pretrained(folder)
    texts = {path.name: path.read_text() for path in sorted(folder.iterdir())}
    return of_older_transformers(texts)


def write_model(
    path: Path, config: ModelConfig, tokenizer: Mapping[str, str], **data: int
) -> dict[str, Tensor]:
    """A checkpoint with random weights, which are returned."""
    state = random_model(config).state_dict()
    recipe: dict[str, Any] = {"model": encode(config)}
    if data:
        recipe["data"] = data
    write_checkpoint(path, Checkpoint(recipe=recipe, tokenizer=tokenizer, model=state))
    return state


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def change_json(path: Path, **changes: Any) -> None:
    """Change keys of a JSON object; None of them is deleted, one that is given as ... is."""
    content = {**read_json(path), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))


def their_model(ours: nn.Module, config: ModelConfig) -> tuple[nn.Module, Any]:
    """The same model of transformers, and its family."""
    family, expressed = family_for(config, FACTS)
    cls = getattr(transformers, family.classes[config.head.task])
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(expressed.config))
        weights = family.weights(ours.state_dict(), config)
        save_file(weights, Path(folder) / "model.safetensors", metadata={"format": "pt"})
        theirs, info = cls.from_pretrained(
            folder, attn_implementation="sdpa", output_loading_info=True
        )
    assert not any(info.values()), info
    return theirs.eval(), family


def save_theirs(
    config: ModelConfig, folder: Path, tokenizer: dict[str, str], **kwargs: Any
) -> None:
    """A folder as transformers writes it."""
    theirs, _ = their_model(random_model(config), config)
    theirs.save_pretrained(folder, **kwargs)  # type: ignore[operator]
    for name, text in tokenizer.items():
        (folder / name).write_text(text)


def padded_batch(config: ModelConfig) -> dict[str, Tensor]:
    """Documents of different lengths, padded on the right; one has a single token."""
    mask = (torch.arange(37) < torch.tensor([20, 37, 1, 29])[:, None]).long()
    pad_id = FACTS.special_ids["pad"]
    assert pad_id is not None
    ids = torch.randint(pad_id + 1, VOCAB_SIZE, mask.shape)
    batch = {"input_ids": torch.where(mask.bool(), ids, pad_id), "attention_mask": mask}
    if getattr(config.embedding, "token_types", 0) > 1:
        batch["token_type_ids"] = torch.randint(2, mask.shape)
    if config.head.task == "multiple_choice":
        batch = {name: value.view(2, 2, -1) for name, value in batch.items()}
    return batch
