"""torch_npu: how it is imported, why that failed, and the kinds of Ascend chip; mmdet/device.py uses it."""

import importlib
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from types import ModuleType

import torch

from mmdet.errors import DeviceError

NPU_CHIPS = ("910A", "910B", "310P")  # Ascend910; A2 and A3; Atlas inference: kernels differ by these
# Ascend910B1 to B4, 910_93 and 910_95... are A2 and A3; plain, Pro and Premium 910 are the first generation.
_CHIP_NAMES = {"310P": "310P", "910B": r"910(B\d|_9\d)", "910A": r"910(A|Pro|Premium|$)"}


def chip_of(name: str) -> str:
    """Return the kind of chip that torch_npu calls `name`, one of NPU_CHIPS; "" if it is none of them."""
    return next((chip for chip, pattern in _CHIP_NAMES.items() if re.search(pattern, name)), "")


def import_torch_npu() -> ModuleType:
    """Return torch_npu; DeviceError with the reason if it cannot be imported."""
    _refuse_cuda_build()
    try:
        return importlib.import_module("torch_npu")
    except ModuleNotFoundError as error:
        if error.name != "torch_npu":
            raise _import_failed(error) from error
        hint = "pip install torch-npu (the release that matches torch), or pass --device cpu"
        raise DeviceError(f"device npu: torch_npu is not installed. {hint}.") from error
    except Exception as error:  # an Exception and no more, where ASCEND_HOME_PATH points nowhere
        raise _import_failed(error) from error


def _refuse_cuda_build() -> None:
    """Stop if importing torch_npu would end this process, as 2.13.0 does in a CUDA build of torch.

    Only a process of its own can tell; it is asked in such a build alone.
    """
    if (
        torch.version.cuda is None
        or "torch_npu" in sys.modules
        or importlib.util.find_spec("torch_npu") is None
    ):
        return
    environ = {**os.environ, "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    done = subprocess.run([sys.executable, "-c", "import torch_npu"], env=environ, capture_output=True)
    if done.returncode < 0:  # a signal: abort
        cpu_build = torch.__version__.partition("+")[0] + "+cpu"
        raise DeviceError(
            f"device npu: torch_npu aborts, because torch {torch.__version__} is a CUDA build. Install the "
            f"CPU build: pip install torch=={cpu_build} from PyTorch's CPU index."
        )


def _import_failed(error: Exception) -> DeviceError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    reason = reason.replace("cannot open shared object file: No such file or directory", "not found")
    hint = _wrong_pair() or "Source CANN's set_env.sh, or pass --device cpu."
    return DeviceError(f"device npu: torch_npu failed to import ({reason}). {hint}")


def _wrong_pair() -> str:
    """Return what to do if torch and torch-npu are of different releases, else ""."""
    try:
        theirs = importlib.metadata.version("torch-npu")
    except importlib.metadata.PackageNotFoundError:
        return ""
    release = ".".join(theirs.split(".")[:3])  # 2.7.1.post2 belongs to torch 2.7.1
    if release == torch.__version__.partition("+")[0]:
        return ""
    return f"torch {torch.__version__} and torch-npu {theirs} do not fit: install torch=={release}."
