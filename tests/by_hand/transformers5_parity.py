"""NomicBERT, GTE and EuroBERT from yamls/models against transformers 5, which has them.

The locked environment holds transformers 4.57, so this runs by hand in a second one that lies over
it, made from the repository's root:

    python -m venv /tmp/five
    echo "$PWD"/.venv/lib/python3.*/site-packages > /tmp/five/locked.pth
    mv /tmp/five/locked.pth /tmp/five/lib/python3.*/site-packages/
    .venv/bin/uv pip install --python /tmp/five/bin/python --no-deps \\
        "transformers>=5.2" "tokenizers>=0.23.1,<0.24"
    .venv/bin/uv pip install --python /tmp/five/bin/python "huggingface_hub>=1.5"
    PYTHONPATH=. /tmp/five/bin/python tests/by_hand/transformers5_parity.py

It prints the largest difference of logits and gradients, as a share of the largest value, and ends
with an error where that is above 1e-9 in float64 or 1e-4 in float32.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from flexbert.components import register_all
from flexbert.config.decode import decode
from flexbert.config.model import ModelConfig
from flexbert.config.recipe_files import interpolate, overrides_tree, read_tree
from flexbert.config.tree import merge
from flexbert.nn.build import build_model
from flexbert.nn.padded import PaddedModel

VOCAB_SIZE, HIDDEN, LAYERS, HEADS, INTERMEDIATE = 120, 64, 4, 4, 96
SIZES = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INTERMEDIATE,
    "pad_token_id": 0,
    "attn_implementation": "sdpa",
}
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
BERT_LIKE = {
    "embeddings.word_embeddings": "encoder.embedding.tokens",
    "embeddings.token_type_embeddings": "encoder.embedding.token_types",
    "embeddings.LayerNorm": "encoder.embedding.norm",
    "layers": "encoder.layers",
    "post_attention_layernorm": "attention_norm",
    "post_mlp_layernorm": "mlp_norm",
}
SHARED = {"self_attn.o_proj": "attention.out", "mlp.down_proj": "mlp.down"}
# For each: its YAML and what is changed there; their class and its config; names, theirs to ours.
CASES: dict[str, tuple[str, list[str], str, dict[str, Any], dict[str, str]]] = {
    "NomicBERT": (
        "nomicbert",
        [],
        "NomicBert",
        {},
        {
            **BERT_LIKE,
            "cls.predictions.transform.dense": "head.dense",
            "cls.predictions.transform.layer_norm": "head.norm",
            "nomic_bert.": "",
        },
    ),
    "GTE": (
        "gte-en-mlm-base",
        ["attention.rope.theta.global=160_000"],
        "Gte",
        {"type_vocab_size": 0},
        {
            **BERT_LIKE,
            "lm_head.dense": "head.dense",
            "lm_head.layer_norm": "head.norm",
            "lm_head.decoder": "head.decoder",
            "gte.": "",
        },
    ),
    "EuroBERT, grouped queries": (
        "eurobert-610m",
        ["attention.num_kv_heads=2", "attention.rope.theta.global=250_000"],
        "EuroBert",
        {
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 250_000.0},
            "bos_token_id": 1,
            "eos_token_id": 2,
            "mask_token_id": 3,
        },
        {
            "model.embed_tokens": "encoder.embedding.tokens",
            "model.layers": "encoder.layers",
            "input_layernorm": "attention_norm",
            "post_attention_layernorm": "mlp_norm",
            "model.norm": "encoder.final_norm",
            "lm_head": "head.decoder",
        },
    ),
}


def our_config(name: str, changes: list[str]) -> ModelConfig:
    register_all()
    overrides = [
        f"vocab_size={VOCAB_SIZE}",
        f"hidden_size={HIDDEN}",
        f"num_layers={LAYERS}",
        f"attention.num_heads={HEADS}",
        f"mlp.intermediate_size={INTERMEDIATE}",
        *changes,
    ]
    tree = read_tree(Path("yamls/models") / f"{name}.yaml")
    tree = merge(tree, overrides_tree([f"model.{override}" for override in overrides]))
    return decode(ModelConfig, interpolate(tree)["model"])


def our_weights(theirs: nn.Module, names: dict[str, str]) -> dict[str, Tensor]:
    """Their tensors under our names, with queries, keys and values and both GLU halves joined."""
    state = theirs.state_dict()
    ours: dict[str, Tensor] = {}
    for key, value in state.items():
        path, kind = key.rsplit(".", 1)
        for their_name, our_name in (SHARED | names).items():
            path = path.replace(their_name, our_name)
        if path.endswith("self_attn.q_proj"):
            parts = [state[key.replace("q_proj", f"{x}_proj")] for x in "qkv"]
            ours[path.replace("self_attn.q_proj", "attention.qkv") + f".{kind}"] = torch.cat(parts)
        elif path.endswith("mlp.gate_proj"):
            parts = [value, state[key.replace("gate_proj", "up_proj")]]
            ours[path.replace("gate_proj", "up") + f".{kind}"] = torch.cat(parts)
        elif not path.endswith(("k_proj", "v_proj", "up_proj")):
            ours[f"{path}.{kind}"] = value
    return ours


def float64_norms(module: nn.Module) -> None:
    """Their RMSNorm computes in float32 whatever the model's dtype; torch's own does not."""
    for name, child in module.named_children():
        if type(child).__name__.endswith("RMSNorm"):
            norm = nn.RMSNorm(len(child.weight), eps=child.variance_epsilon).double()
            norm.load_state_dict(child.state_dict())
            setattr(module, name, norm)


def largest_difference(actual: Tensor, expected: Tensor) -> float:
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def compare(case: str, dtype: torch.dtype) -> tuple[float, float]:
    name, changes, their_class, their_options, names = CASES[case]
    config = our_config(name, changes)
    their_config = getattr(transformers, f"{their_class}Config")(**SIZES | their_options)
    theirs = getattr(transformers, f"{their_class}ForMaskedLM")(their_config).eval().to(dtype)
    for key, parameter in theirs.named_parameters():
        nn.init.normal_(parameter, std=0.3)
        # The released NomicBERT has no bias in its head; the class of transformers has.
        in_head = key.startswith("cls.") and "layer_norm" not in key
        if their_class == "NomicBert" and in_head and key.endswith("bias"):
            nn.init.zeros_(parameter)
    if dtype == torch.float64:
        theirs.apply(float64_norms)
    weights = our_weights(theirs, names)
    ours = build_model(config).to(dtype).eval()
    state = ours.state_dict()
    ours.load_state_dict({key: weights[key] for key in state})

    lengths = torch.tensor([40, 23, 1, 33])
    mask = (torch.arange(40) < lengths[:, None]).long()
    input_ids = torch.randint(1, VOCAB_SIZE, mask.shape) * mask
    real = mask.bool()
    their_logits = theirs(input_ids, attention_mask=mask).logits[real]
    our_logits = PaddedModel(ours, config)(input_ids, mask)[real]
    labels = torch.randint(VOCAB_SIZE, (len(our_logits),))
    F.cross_entropy(their_logits, labels).backward()
    F.cross_entropy(our_logits, labels).backward()
    for parameter in theirs.parameters():
        parameter.data = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    gradients = our_weights(theirs, names)
    differences = [
        largest_difference(parameter.grad, gradients[key])
        for key, parameter in ours.named_parameters()
        if parameter.grad is not None
    ]
    return largest_difference(our_logits, their_logits), max(differences)


def main() -> int:
    torch.manual_seed(0)
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    worst = 0.0
    for case in CASES:
        for dtype, tolerance in TOLERANCE.items():
            logits, gradients = compare(case, dtype)
            worst = max(worst, logits / tolerance, gradients / tolerance)
            print(f"{case:<26} {dtype!s:<14} logits {logits:.1e}  gradients {gradients:.1e}")
    return int(worst > 1)


if __name__ == "__main__":
    sys.exit(main())
