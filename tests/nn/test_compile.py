from __future__ import annotations

import torch
from torch._dynamo.testing import CompileCounterWithBackend

from flexbert.nn.build import build_model
from tests.nn.cases import ragged_batch, small_model
from tests.nn.tolerances import assert_same

# Four batches of 60 tokens and a capacity of 6 sequences.
BATCHES = [
    ragged_batch(lengths, max_seqlen=40)
    for lengths in (
        (20, 40, 0, 0, 0, 0),
        (10, 10, 10, 10, 10, 10),
        (1, 39, 20, 0, 0, 0),
        (30, 30, 0, 0, 0, 0),
    )
]


def test_one_graph_serves_every_batch_of_one_capacity() -> None:
    model = build_model(small_model(num_layers=2))
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    for ragged in BATCHES:
        positions = torch.randint(60, (9,))
        expected = model(ragged, positions)
        logits = compiled(ragged, positions)
        assert_same(logits, expected)
        gradients = torch.autograd.grad(logits.logsumexp(-1).sum(), list(model.parameters()))
        references = torch.autograd.grad(expected.logsumexp(-1).sum(), list(model.parameters()))
        for gradient, reference in zip(gradients, references, strict=True):
            assert_same(gradient, reference)
    assert counter.frame_count == 1
