"""Which keys of a model decide what its weights compute: shown by computing.

Weights are averaged where the models' functions are the same, as their keys declare it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flexbert.config.decode import decode
from flexbert.config.encode import encode
from flexbert.config.fields import FUNCTION
from flexbert.config.model import ModelConfig
from flexbert.config.tree import expand_dotted, merge
from flexbert.errors import ConfigError
from flexbert.nn.build import new_model
from tests.config.declarations import Declared, declarations
from tests.nn.cases import packed_batch, small_model

Tree = dict[str, Any]
SMALL: Tree = encode(small_model())
SINUSOIDS = {"embedding.positions": {"name": "sinusoidal"}}
LABELS = {"norm": None, "num_labels": 3}
PLAIN_MLP = {"name": "mlp", "intermediate_size": 48}
# A base so low that the four pairs of a head turn now more and now less often than the betas.
YARN = {
    "attention.rope.theta": {"global": 100, "local": 100},
    "attention.rope.scaling": {
        **{"name": "yarn", "factor": 4, "original_length": 64},
        **{"beta_fast": 4, "beta_slow": 0.25},
    },
}

# What is laid over SMALL for a config to stand in it, unless it does already.
BASES: dict[str, Tree] = {
    "LearnedPositionsConfig": {"embedding.positions": {"name": "learned", "length": 96}},
    "SinusoidalPositionsConfig": SINUSOIDS,
    "RMSNormConfig": {"embedding.norm": {"name": "rmsnorm"}},
    "PlainMLPConfig": {"mlp": PLAIN_MLP},
    "ParallelConfig": {"block": {"name": "parallel", "norm": {"name": "layernorm"}}},
    "SandwichConfig": {"block": {"name": "sandwich", "norm": {"name": "layernorm"}}},
    "PostNormConfig": {
        "block": {"name": "post_norm", "norm": {"name": "layernorm"}},
        "final_norm": None,
    },
    "LinearScaling": {"attention.rope.scaling": {"name": "linear", "factor": 2}},
    "NTKScaling": {"attention.rope.scaling": {"name": "ntk", "factor": 2}},
    "NTKAllPairsScaling": {"attention.rope.scaling": {"name": "ntk_all_pairs", "factor": 2}},
    "DynamicNTKScaling": {
        "attention.rope.scaling": {"name": "dynamic_ntk", "factor": 2, "original_length": 16}
    },
    "YarnScaling": YARN,
    "TokenClassificationConfig": {"head": {"name": "token_classification", **LABELS}},
    "SequenceClassificationConfig": {"head": {"name": "sequence_classification", **LABELS}},
    "MultipleChoiceConfig": {"head": {"name": "multiple_choice", "norm": None}},
    "QuestionAnsweringConfig": {"head": {"name": "question_answering", "norm": None}},
    "LayerConfig": {"layers": {"0": {"mlp": PLAIN_MLP}}},
    "NormalConfig": {"init": {"name": "normal"}},
    "TruncatedNormalConfig": {"init": {"name": "truncated_normal"}},
    "FanInConfig": {"init": {"name": "fan_in"}},
    "KaimingConfig": {"init": {"name": "kaiming"}},
    "MitchellConfig": {"init": {"name": "mitchell"}},
    "MultiHeadConfig.alibi": SINUSOIDS | {"attention.rope": None},
}
# Other values, where neither twice the number nor the other truth value will do.
OTHERS: dict[str, Any] = {
    "name": "other",
    "num_heads": 2,
    "hidden_size": 64,
    "head_dim": 4,
    "windows": {"repeat": ["global", 4, 4]},
    "num_kv_heads": 2,
    "rope": {"fraction": 0.5},
    "theta": {"global": 1e3},
    "fraction": 0.5,
    "scaling": {"name": "linear", "factor": 2},
    "beta_fast": 0.5,
    "beta_slow": 2,
    "qk_norm": {"name": "rmsnorm"},
    "output_bias": True,
    "backend": "reference",
    "dropout": 0.5,
    "output_dropout": 0.5,
    "norm": {"name": "rmsnorm"},
    "final_norm": None,
    "activation": "silu",
    "positions": {"name": "sinusoidal"},
    "token_types": 2,
    "size": 16,
    "offset": 2,
    "pooling": "mean",
    "labels": ["a", "b", "c"],
    "embedding": {"norm": None},
    "block": {"name": "parallel", "norm": {"name": "layernorm"}},
    "attention": {
        "name": "multi_head",
        "num_heads": 4,
        "rope": {"name": "rope", "theta": {"global": 1e3}},
    },
    "mlp": PLAIN_MLP | {"activation": "relu"},
    "layers": {"0": {"mlp": PLAIN_MLP}},
    "head": {"activation": "relu"},
    "init": {"name": "normal"},
}
# A multiple-choice head has one label, that of answers two, and no other number of them.
FIXED = {
    f"{head}.{field}"
    for head in ("MultipleChoiceConfig", "QuestionAnsweringConfig")
    for field in ("num_labels", "labels")
}


def once() -> dict[str, Declared]:
    """Each field by its config's name and its own, at a place outside of ``layers`` if there is."""
    found: dict[str, Declared] = {}
    for declared in declarations(ModelConfig):
        if "*" not in declared.path or declared.cls.__name__ == "LayerConfig":
            found.setdefault(f"{declared.cls.__name__}.{declared.name}", declared)
    return found


FIELDS = once()


def laid_over(tree: Tree, *changes: Tree) -> Tree:
    for change in changes:
        tree = merge(tree, expand_dotted(change))
    return tree


def value_in(tree: Tree, path: str) -> Any:
    value: Any = tree
    for part in path.split("."):
        value = value[part]
    return value


def other_value(name: str, value: Any) -> Any:
    if name in OTHERS:
        return OTHERS[name]
    return not value if isinstance(value, bool) else 2 * value


def compute_the_same(config: ModelConfig, other: ModelConfig) -> bool:
    """Whether weights of one, in the other, give the same logits, to float64's precision."""
    torch.manual_seed(0)
    model, changed = new_model(config).double(), new_model(other).double()
    # Biases and norms begin at zero and one, where some keys change nothing yet.
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    weights = model.state_dict()
    shapes = {name: value.shape for name, value in weights.items()}
    if shapes != {name: value.shape for name, value in changed.state_dict().items()}:
        return False
    changed.load_state_dict(weights)
    batch = packed_batch((30, 7, 50))
    with torch.no_grad():
        logits, others = model.eval()(batch), changed.eval()(batch)
    return torch.allclose(logits, others, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("field", FIELDS)
def test_a_key_decides_what_weights_compute_as_its_role_says(field: str) -> None:
    declared = FIELDS[field]
    path = declared.path.replace("*", "0")
    tree = laid_over(SMALL, BASES.get(declared.cls.__name__, {}), BASES.get(field, {}))
    config = decode(ModelConfig, tree)
    value = value_in(encode(config), path)
    changed = laid_over(tree, {path: other_value(declared.name, value)})
    if field in FIXED:
        with pytest.raises(ConfigError):
            decode(ModelConfig, changed)
        return
    other = decode(ModelConfig, changed)
    assert value_in(encode(other), path) != value, "another value is what this is about"
    assert compute_the_same(config, other) == (declared.key.role is not FUNCTION)
