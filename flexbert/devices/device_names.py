"""What a device is called in records."""

from __future__ import annotations

import torch


def device_name(device: torch.device) -> str:
    """A GPU's make; of a CPU how many threads compute, which decides how fast it is."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'s' * (threads != 1)}"
