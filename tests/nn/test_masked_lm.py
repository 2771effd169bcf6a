from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from flexbert.components import register_all
from flexbert.config.decode import decode
from flexbert.config.model import ModelConfig
from flexbert.config.recipe_files import interpolate, read_tree
from flexbert.nn.build import ParameterCounts, build_model, parameter_counts
from flexbert.nn.head import MLMHeadConfig
from flexbert.nn.init import MegatronInitConfig
from flexbert.nn.norm import LayerNormConfig
from flexbert.nn.packed_batch import PackedBatch
from tests.nn.cases import VOCAB_SIZE, attention_config, packed_batch, small_model
from tests.nn.tolerances import assert_same

BACKENDS = ("reference", "sdpa")


def read_model(name: str) -> ModelConfig:
    register_all()
    tree = interpolate(read_tree(Path(f"yamls/models/{name}.yaml")))
    return decode(ModelConfig, tree["model"])


@pytest.mark.parametrize(
    ("name", "total", "intermediate"),
    [
        ("modernbert-base", 149_655_232, 1152),
        ("modernbert-large", 395_881_664, 2624),
    ],
)
def test_released_models_have_their_published_size(
    name: str, total: int, intermediate: int
) -> None:
    model = read_model(name)
    layers, width = model.num_layers, model.hidden_size
    embedding = model.vocab_size * width + width
    head = width**2 + width + model.vocab_size
    assert parameter_counts(model) == ParameterCounts(
        total=total,
        embedding=embedding,
        encoder=total - embedding - head,
        attention=layers * 4 * width**2,
        mlp=layers * 3 * width * intermediate,
        # Two a layer but for the first attention's, and the final one.
        norms=2 * layers * width,
        head=head,
    )


def test_a_tied_matrix_is_in_the_state_once() -> None:
    state = build_model(small_model()).state_dict()
    shapes = [tuple(value.shape) for value in state.values()]
    assert shapes.count((VOCAB_SIZE, 32)) == 1
    assert "head.decoder.weight" not in state


def test_an_untied_decoder_has_a_matrix_of_its_own() -> None:
    head = MLMHeadConfig(norm=LayerNormConfig(), tied=False)
    tied, untied = small_model(), small_model(head=head)
    more = parameter_counts(untied).total - parameter_counts(tied).total
    assert more == VOCAB_SIZE * 32
    build_model(untied)(packed_batch((4, 9)))


def test_masked_positions_select_rows_of_the_full_logits() -> None:
    model = build_model(small_model())
    packed = packed_batch((12, 30))
    positions = torch.tensor([3, 3, 40, 0])
    assert_same(model(packed, positions), model(packed)[positions])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_document_never_influences_its_neighbour(backend: str) -> None:
    model = build_model(small_model(attention=attention_config(backend=backend)))
    packed = packed_batch((140, 35, 150))
    tokens = packed.tokens.clone()
    tokens[140:175] = (tokens[140:175] + 1) % VOCAB_SIZE
    before, after = model(packed), model(dataclasses.replace(packed, tokens=tokens))
    assert torch.equal(before[:140], after[:140])
    assert torch.equal(before[175:], after[175:])
    assert not torch.equal(before[140:175], after[140:175])


@pytest.mark.parametrize("backend", BACKENDS)
def test_packed_logits_equal_those_of_each_document_alone(backend: str) -> None:
    model = build_model(small_model(attention=attention_config(backend=backend)))
    packed = packed_batch((140, 1, 35))
    alone = [
        model(
            PackedBatch(
                tokens,
                torch.tensor([0, len(tokens)], dtype=torch.int32),
                len(tokens),
                torch.arange(len(tokens)),
            )
        )
        for tokens in packed.tokens.split([140, 1, 35])
    ]
    assert_same(model(packed), torch.cat(alone))


def test_a_padding_sequence_at_the_end_changes_nothing() -> None:
    model = build_model(small_model()).double()
    padded = packed_batch((40, 21, 67))
    real = PackedBatch(
        padded.tokens[:61], padded.cu_seqlens[:3], padded.max_seqlen, padded.position_ids[:61]
    )
    assert_same(model(padded)[:61], model(real))


def test_bfloat16_autocast_stays_near_float32() -> None:
    model = build_model(small_model(init=MegatronInitConfig(std=0.1)))
    packed = packed_batch((40, 21))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(packed)
        logits.float().logsumexp(-1).mean().backward()
    assert logits.dtype == torch.bfloat16
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    exact = model(packed)
    # A dozen roundings of 4e-3 one after the other, through four layers.
    assert (logits - exact).abs().max() < 0.05 * exact.abs().max()


def test_dropout_runs_while_training_only() -> None:
    model = build_model(small_model(attention=attention_config(output_dropout=0.5)))
    packed = packed_batch((20,))
    assert not torch.equal(model(packed), model(packed))
    model.eval()
    assert torch.equal(model(packed), model(packed))
