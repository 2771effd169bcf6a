"""GPUs by name: what a plan needs to know of one.

Rates are dense bfloat16 products with float32 sums, from NVIDIA's data sheets, where that of sparse
matrices, twice as much, often stands first. Older GPUs than Ampere have no bfloat16 and are not
listed.
"""

from __future__ import annotations

from typing import NamedTuple


class GpuModel(NamedTuple):
    """A GPU.

    Attributes:
        peak_tflops: of dense bfloat16 matrix products, in 10^12 operations a second.
        memory: in GiB.
    """

    peak_tflops: float
    memory: float


GPUS: dict[str, GpuModel] = {
    "A10": GpuModel(125, 24),
    "A100": GpuModel(312, 80),
    "A100-40GB": GpuModel(312, 40),
    "B200": GpuModel(2250, 180),
    "H100": GpuModel(989, 80),
    "H100-PCIe": GpuModel(756, 80),
    "H200": GpuModel(989, 141),
    "L4": GpuModel(121, 24),
    "L40S": GpuModel(362, 48),
}
DEFAULT = "H100"
