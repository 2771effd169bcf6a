"""Whether Triton can make kernels, which torch.compile on a GPU and optimi's StableAdamW need.

Triton compiles a small C module for each kernel when the kernel first runs. Without a compiler it
would fail in the first update, after the corpus was read and the model made.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tempfile
from functools import cache
from pathlib import Path

import torch

from flexbert.errors import first_line

_SOURCE = "#include <Python.h>\n"


@cache
def triton_problem(device: torch.device) -> str | None:
    """Why Triton cannot make kernels for a device; None if it can.

    The driver's part of it has not run on a GPU yet.
    """
    try:
        import triton
    except Exception as error:  # one that was built for another Python fails in many ways
        return f"triton cannot be imported ({first_line(error)})"
    if device.type != "cuda":
        return f"triton makes kernels for GPUs, this is {device.type}"
    problem = c_compiler_problem()
    if problem is not None:
        return problem
    try:
        # What it asks before it compiles any kernel.
        triton.runtime.driver.active.get_current_target()
    except Exception as error:
        return f"triton cannot use the GPU's driver ({type(error).__name__}: {first_line(error)})"
    return None


def c_compiler_problem() -> str | None:
    """Why no C module for this Python can be compiled, by trying it; None if one can.

    The compiler is the one that Triton takes: ``CC``, else gcc, else clang.
    """
    named = os.environ.get("CC")
    compiler = named or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return "there is no C compiler for triton: install gcc, or set CC to one"
    include = sysconfig.get_paths()["include"]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "module.c")
        source.write_text(_SOURCE)
        command = [compiler, str(source), "-shared", "-fPIC", f"-I{include}"]
        try:
            subprocess.run(
                [*command, "-o", str(Path(folder, "module.so"))],
                check=True,
                capture_output=True,
                text=True,
            )
        except OSError as error:
            return f"the C compiler {compiler} cannot be run ({first_line(error)})"
        except subprocess.CalledProcessError as error:
            if not Path(include, "Python.h").is_file():
                return f"there is no Python.h in {include}: install Python's headers (python3-dev)"
            said = (error.stderr or "").strip().splitlines()
            return f"the C compiler {compiler} fails ({said[0] if said else error})"
    return None
