"""GPUs by name: what a plan needs to know of one.

Rates are dense bfloat16 products with float32 sums, from NVIDIA's data sheets, where that of sparse
matrices, twice as much, often stands first. Older GPUs than Ampere have no bfloat16 and are not
listed.
"""

from __future__ import annotations

from typing import NamedTuple


class Gpu(NamedTuple):
    """A GPU.

    Attributes:
        peak_tflops: of dense bfloat16 matrix products, in 10^12 operations a second.
        memory: in GiB.
    """

    peak_tflops: float
    memory: float


GPUS: dict[str, Gpu] = {
    "A10": Gpu(125, 24),
    "A100": Gpu(312, 80),
    "A100-40GB": Gpu(312, 40),
    "B200": Gpu(2250, 180),
    "H100": Gpu(989, 80),
    "H100-PCIe": Gpu(756, 80),
    "H200": Gpu(989, 141),
    "L4": Gpu(121, 24),
    "L40S": Gpu(362, 48),
}
DEFAULT = "H100"
