from __future__ import annotations

import hypothesis.strategies as st
import torch
from hypothesis import given

from flexbert.nn.packed_batch import pad, sequence_ids, unpad

ROWS = st.integers(1, 8).flatmap(
    lambda width: st.lists(
        st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=5
    )
)


@given(rows=ROWS)
def test_unpad_then_pad_restores_real_tokens_and_zeroes_the_rest(rows: list[list[bool]]) -> None:
    attention_mask = torch.tensor(rows).long()
    input_ids = torch.arange(1, attention_mask.numel() + 1).view(attention_mask.shape)
    packed, indices = unpad(input_ids, attention_mask)
    assert torch.equal(pad(packed.tokens, indices, *input_ids.shape), input_ids * attention_mask)


@given(rows=ROWS)
def test_unpad_describes_each_row_as_one_sequence(rows: list[list[bool]]) -> None:
    attention_mask = torch.tensor(rows)
    packed, _ = unpad(torch.zeros(attention_mask.shape, dtype=torch.long), attention_mask)
    lengths = [sum(row) for row in rows]
    assert packed.cu_seqlens.dtype == torch.int32
    assert packed.cu_seqlens.diff().tolist() == lengths
    assert packed.max_seqlen == max(lengths)
    assert packed.position_ids.tolist() == [i for length in lengths for i in range(length)]


def test_left_padding_does_not_shift_positions() -> None:
    packed, _ = unpad(torch.tensor([[0, 0, 7, 8, 9]]), torch.tensor([[0, 0, 1, 1, 1]]))
    assert packed.tokens.tolist() == [7, 8, 9]
    assert packed.position_ids.tolist() == [0, 1, 2]


def test_sequence_ids_pass_over_empty_sequences() -> None:
    cu_seqlens = torch.tensor([0, 0, 2, 2, 5, 5, 5], dtype=torch.int32)
    assert sequence_ids(cu_seqlens, 5).tolist() == [1, 1, 3, 3, 3]
