"""Small models of each Hugging Face family, with every head, and what tests do with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn

from flexbert.checkpoint.checkpoint import Checkpoint
from flexbert.checkpoint.checkpoint_file import write_checkpoint
from flexbert.config.encode import encode
from flexbert.config.model import ModelConfig
from flexbert.huggingface.families import family_for
from flexbert.huggingface.family import Facts
from flexbert.huggingface.names import their_names, to_theirs
from flexbert.nn.attention import MultiHeadConfig
from flexbert.nn.block import PostNormConfig
from flexbert.nn.build import build_model
from flexbert.nn.classification import (
    MultipleChoiceConfig,
    SequenceClassificationConfig,
    TokenClassificationConfig,
)
from flexbert.nn.embedding import TokenEmbeddingConfig
from flexbert.nn.head import MLMHeadConfig
from flexbert.nn.init import NormalConfig
from flexbert.nn.mlp import PlainMLPConfig
from flexbert.nn.norm import LayerNormConfig
from flexbert.nn.packed_batch import PackedBatch, unpad
from flexbert.nn.padded import PaddedModel
from flexbert.nn.positions import LearnedPositionsConfig
from tests.nn.cases import VOCAB_SIZE, small_model
from tests.nn.tolerances import assert_same

# Not where any released tokenizer has them; RoBERTa's positions count from the pad id.
SPECIAL = {"[CLS]": 5, "[PAD]": 1, "[SEP]": 7, "[MASK]": 8, "[UNK]": 9}
FACTS = Facts(
    special_ids={"pad": 1, "cls": 5, "sep": 7, "mask": 8, "bos": None, "eos": None, "unk": 9},
    max_length=48,
)
NORM = LayerNormConfig(eps=1e-12, bias=True)


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


PLAIN: dict[str, Any] = {"dense": False, "activation": None, "norm": None}
POOLED: dict[str, Any] = {"bias": True, "activation": "tanh", "norm": None}
# For each task a head that BERT and RoBERTa have, and one that ModernBERT has.
HEADS: dict[str, tuple[Any, Any]] = {
    "sequence_classification": (
        SequenceClassificationConfig(num_labels=3, dropout=0.1, **POOLED),
        SequenceClassificationConfig(num_labels=3, pooling="mean", norm=LayerNormConfig()),
    ),
    "token_classification": (
        TokenClassificationConfig(num_labels=5, dropout=0.1, **PLAIN),
        TokenClassificationConfig(num_labels=5, bias=True, norm=LayerNormConfig()),
    ),
    "multiple_choice": (
        MultipleChoiceConfig(dropout=0.1, **POOLED),
        MultipleChoiceConfig(pooling="cls", activation="silu", norm=LayerNormConfig()),
    ),
}
MODELS: dict[str, ModelConfig] = {
    "modernbert": small_model(),
    "bert": bert(),
    "roberta": roberta(),
    **{f"modernbert {task}": small_model(head=heads[1]) for task, heads in HEADS.items()},
    **{f"bert {task}": bert(head=heads[0]) for task, heads in HEADS.items()},
    **{f"roberta {task}": roberta(head=heads[0]) for task, heads in HEADS.items()},
}
# Those with a masked-LM head.
SAVED = {name: MODELS[name] for name in ("modernbert", "bert", "roberta")}


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
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


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
    their_config = cls.config_class(**expressed.config)
    theirs = cls._from_config(their_config, attn_implementation="sdpa").eval()
    weights = to_theirs(ours.state_dict(), family.names(config.head.task))
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert unexpected == []
    assert set(missing) <= set(family.repeated(config.head.task, tied=True))
    theirs.tie_weights()
    return theirs, family


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


def with_capacity(packed: PackedBatch) -> PackedBatch:
    """The same documents as a row of fixed capacity: padding and empty sequences at its end."""
    rest = 11

    def longer(values: Tensor | None) -> Tensor | None:
        return None if values is None else F.pad(values, (0, rest))

    num_tokens = len(packed.tokens)
    ends = torch.tensor([num_tokens + rest] * 4, dtype=torch.int32)
    tokens, positions = longer(packed.tokens), longer(packed.position_ids)
    assert tokens is not None
    assert positions is not None
    return PackedBatch(
        tokens=tokens,
        cu_seqlens=torch.cat((packed.cu_seqlens, ends)),
        max_seqlen=48,
        position_ids=positions,
        token_types=longer(packed.token_types),
    )


def check_logits_and_gradients(config: ModelConfig, dtype: torch.dtype) -> None:
    """Ours on padded, packed and packed input give theirs, and the loss the same gradients."""
    ours = random_model(config).to(dtype)
    theirs, family = their_model(ours, config)
    theirs.to(dtype)
    batch = padded_batch(config)
    is_real = batch["attention_mask"].bool()
    their_logits = theirs(**batch).logits
    our_logits = PaddedModel(ours.eval(), config)(**batch)  # type: ignore[arg-type]
    if not config.head.per_token:
        assert_same(our_logits, their_logits)
        # Not a cross-entropy: that of choices gives the classifier's bias no gradient at all.
        losses = [logits.square().mean() for logits in (our_logits, their_logits)]
    else:
        our_logits, their_logits = our_logits[is_real], their_logits[is_real]
        assert_same(our_logits, their_logits)
        types = batch.get("token_type_ids")
        packed, _ = unpad(batch["input_ids"], batch["attention_mask"], types)
        assert_same(ours(packed), their_logits)
        assert_same(ours(with_capacity(packed))[: len(packed.tokens)], their_logits)
        labels = torch.randint(their_logits.shape[-1], (len(their_logits),))
        labels[::3] = -100
        losses = [F.cross_entropy(logits, labels) for logits in (our_logits, their_logits)]
    for loss in losses:
        loss.backward()
    expected = {name: p.grad for name, p in theirs.named_parameters()}
    gradients = dict(_gradients(ours))
    for name, rows in their_names(gradients, family.names(config.head.task)).items():
        parts = [expected[row] for row in rows]
        assert_same(gradients[name], torch.cat(parts) if len(parts) > 1 else parts[0])


def _gradients(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        yield name, parameter.grad
