"""What benchmarks compare has the sizes of what was released."""

from __future__ import annotations

import pytest
import torch

from benchmarks.encoders import SCALES, Peer, peers

# Of the released checkpoints, without poolers and heads; GTE's of gte-base-en-v1.5.
RELEASED = {
    "bert": 108_891_648,
    "roberta": 124_055_040,
    "deberta-v3": 183_831_552,
    "nomicbert": 136_731_648,
    "gte": 136_776_192,
    "gte-unpadded-in-layers": 136_776_192,
    "modernbert": 149_014_272,
}
PEERS = peers(torch.device("cpu"))


@pytest.mark.parametrize(("name", "peer"), PEERS.items(), ids=PEERS)
def test_base_encoders_have_the_released_number_of_parameters(name: str, peer: Peer) -> None:
    with torch.device("meta"):
        encoder = peer.build(SCALES["base"])
    assert sum(parameter.numel() for parameter in encoder.parameters()) == RELEASED[name]
