"""The padded encoders that FlexBERT is measured against compute what its own of them compute."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.encoders import SCALES, flexbert_encoder, padded_encoder
from benchmarks.peers import GTE, NOMICBERT, PaddedEncoder
from flexbert.nn.encoder import Encoder
from flexbert.nn.packed_batch import unpad

TINY = SCALES["tiny"]
PEERS = {"nomicbert": NOMICBERT, "gte-en-mlm-base": GTE}
UNPADDINGS = ("none", "in_layers", "around_attention")
LENGTHS = {"padded": (9, 1, 17, 5), "nothing to pad": (6, 6), "one document": (7,)}
# Hidden states are of order one, after two layers of sums of some dozen terms in float32.
TOLERANCE = {"rtol": 0.0, "atol": 1e-5}


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


def encoders(name: str, unpadding: Any = "none") -> tuple[PaddedEncoder, Encoder]:
    """The peer, and FlexBERT's encoder of the same name with the same weights."""
    ours = flexbert_encoder(name, TINY).eval()
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3)
    theirs = padded_encoder(replace(PEERS[name], unpadding=unpadding), TINY).eval()
    theirs.load_state_dict(ours.state_dict())
    return theirs, ours


def padded_batch(lengths: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Random tokens, at padding too, and which of them are real."""
    shape = (len(lengths), max(lengths))
    mask = torch.arange(shape[1]) < torch.tensor(lengths)[:, None]
    return torch.randint(TINY.vocab_size or 0, shape), mask


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("unpadding", UNPADDINGS)
@pytest.mark.parametrize("name", PEERS)
def test_hidden_states_and_gradients_are_flexberts(
    name: str, unpadding: str, lengths: tuple[int, ...]
) -> None:
    theirs, ours = encoders(name, unpadding)
    input_ids, mask = padded_batch(lengths)
    expected = ours(unpad(input_ids, mask)[0])
    actual = theirs(input_ids, mask)
    assert actual.shape == (*input_ids.shape, TINY.bert.hidden_size)
    torch.testing.assert_close(actual[mask], expected, **TOLERANCE)

    direction = torch.randn_like(expected) / len(expected)
    actual[mask].backward(direction)
    expected.backward(direction)
    gradients = {key: parameter.grad for key, parameter in ours.named_parameters()}
    for key, parameter in theirs.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[key], **TOLERANCE)


@pytest.mark.parametrize("unpadding", UNPADDINGS[1:])
@pytest.mark.parametrize("name", PEERS)
def test_unpadding_changes_nothing(name: str, unpadding: Any) -> None:
    padded, _ = encoders(name)
    unpadded = PaddedEncoder(replace(padded.config, unpadding=unpadding))
    unpadded.load_state_dict(padded.state_dict())
    input_ids, mask = padded_batch(LENGTHS["padded"])
    actual, expected = unpadded(input_ids, mask), padded(input_ids, mask)
    torch.testing.assert_close(actual[mask], expected[mask], **TOLERANCE)
    assert not actual[~mask].any()


@pytest.mark.parametrize("unpadding", UNPADDINGS)
def test_nothing_is_read_of_padding(unpadding: str) -> None:
    theirs, _ = encoders("gte-en-mlm-base", unpadding)
    input_ids, mask = padded_batch(LENGTHS["padded"])
    others = input_ids.where(mask, torch.randint_like(input_ids, TINY.vocab_size or 0))
    assert not torch.equal(input_ids, others)
    assert torch.equal(theirs(input_ids, mask)[mask], theirs(others, mask)[mask])
