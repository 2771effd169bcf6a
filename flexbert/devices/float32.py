"""float32 as it says: not TF32, whose products keep 10 bits of a factor's 23."""

from __future__ import annotations

import torch


def forbid_tf32() -> None:
    """Take products of float32 matrices in float32, on GPUs too.

    torch's own defaults allow TF32 in cuDNN, and Composer's device allows it everywhere.
    """
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def allows_tf32() -> bool:
    """Whether any product of float32 matrices may be taken in TF32."""
    return (
        torch.get_float32_matmul_precision() != "highest"
        or torch.backends.cuda.matmul.allow_tf32
        or torch.backends.cudnn.allow_tf32
    )
