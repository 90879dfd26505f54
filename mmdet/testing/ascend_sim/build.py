"""Compile the stand-in CANN libraries for the installed torch_npu, once per version (cached).

The list of symbols to provide is read from the wheel itself, so another torch_npu version builds too. A
symbol that csrc/ does not define becomes a stub that fails with its own name when it is called.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from mmdet.errors import DeviceError

SOC = {
    "910A": "Ascend910A",
    "910B": "Ascend910B1",
    "310P": "Ascend310P3",
}  # CANN's names
WHEELS = ("Linux x86_64", "Linux aarch64")
CSRC = Path(__file__).parent / "csrc"
# Libraries the wheel is linked against; all of them lead to the one that holds the code.
FORWARDERS = (
    "hccl",
    "acl_op_compiler",
    "ge_runner",
    "graph",
    "acl_tdt_channel",
    "opapi",
    "msprofiler",
    "ascend_hal",
)
CANN_SYMBOL = re.compile(r"(acl|aclrt|aclop|aclmdl|rt[A-Z]|Msprof|Hccl)\w*$")


def find_torch_npu() -> Path:
    """Return the folder of the installed torch_npu package.

    Raises:
        DeviceError: it is not installed in this environment, or has no wheel for this machine.
    """
    spec = importlib.util.find_spec("torch_npu")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent
    here = f"{platform.system()} {platform.machine()}"
    if here not in WHEELS:
        raise DeviceError(
            f"the Ascend simulator needs the torch-npu wheel, which exists for {' and '.join(WHEELS)} only; "
            f"this is {here}. Use a container or another machine, or train with --device cpu"
        )
    raise DeviceError("the Ascend simulator needs the torch-npu wheel: pip install -e '.[npu-sim]'")


def _refuse_cuda_build() -> None:
    """Raise DeviceError in a CUDA build of torch, which PyPI brings: torch_npu aborts there."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise DeviceError("the Ascend simulator needs torch: pip install -e '.[npu-sim]'")
    text = (Path(spec.origin).parent / "version.py").read_text()
    version, cuda = (re.search(rf"^{name}\b.*= '([^']+)'", text, re.M) for name in ("__version__", "cuda"))
    if version and cuda:
        release = version[1].partition("+")[0]
        raise DeviceError(
            f"torch {version[1]} is a CUDA build, in which torch-npu aborts. Install the CPU build: pip "
            f"install torch=={release}+cpu from PyTorch's CPU index"
        )


def _symbols(library: Path, which: str) -> set[str]:
    """Return the dynamic symbols of a library; `which` is "undefined" or "defined"."""
    text = subprocess.run(
        ["nm", "-D", f"--{which}-only", str(library)], capture_output=True, text=True, check=True
    ).stdout
    return {line.split()[-1].split("@")[0] for line in text.splitlines() if line.strip()}


def _compile(out: Path, name: str, sources: list[Path], *flags: str) -> Path:
    target = out / f"lib{name}.so"
    command = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(target), *map(str, sources), *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise DeviceError(f"gcc could not build {target.name}: {done.stderr.strip().splitlines()[-1]}")
    return target


def _stub_source(names: list[str]) -> str:
    """Return C code in which every name fails, saying which one was called."""
    lines = ['#include "sim.h"']
    lines += [f'int {n}(void) {{ return sim_fail(ACL_UNSUPPORTED, "{n} is not simulated"); }}' for n in names]
    return "\n".join(lines) + "\n"


def _build_into(out: Path, torch_npu: Path) -> None:
    sources = sorted(CSRC.glob("*.c"))
    probe = _compile(out, "probe", sources, "-lpthread", "-lrt")
    wheel = [*torch_npu.glob("lib/*.so"), *torch_npu.glob("_C*.so")]
    needed = {name for library in wheel for name in _symbols(library, "undefined") if CANN_SYMBOL.match(name)}
    stubs = out / "stubs.c"
    stubs.write_text(_stub_source(sorted(needed - _symbols(probe, "defined"))))
    probe.unlink()
    flags = [f"-I{CSRC}", "-lpthread", "-lrt", "-Wl,-soname,libascendcl.so"]
    _compile(out, "ascendcl", [*sources, stubs], *flags)
    empty = out / "empty.c"
    for name in FORWARDERS:
        empty.write_text(f"int ascend_sim_{name};\n")
        _compile(out, name, [empty], "-Wl,--no-as-needed", f"-L{out}", "-lascendcl", "-Wl,-rpath,$ORIGIN")


def build(cache: Path | None = None) -> Path:
    """Return the folder with the stand-in libraries, building them if they are not there yet.

    Args:
        cache: where to keep builds; default $XDG_CACHE_HOME or ~/.cache, under scrfd-ascend-sim.

    Raises:
        DeviceError: torch_npu, gcc or nm is missing, torch is a CUDA build, a source does not compile.
    """
    torch_npu = find_torch_npu()
    _refuse_cuda_build()
    for tool in ("gcc", "nm"):
        if shutil.which(tool) is None:
            raise DeviceError(f"the Ascend simulator needs {tool}; install gcc and binutils")
    digest = hashlib.sha256(importlib.metadata.version("torch-npu").encode())
    for source in [*sorted(CSRC.iterdir()), Path(__file__)]:
        digest.update(source.read_bytes())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    target = (cache or home / "scrfd-ascend-sim") / digest.hexdigest()[:16]
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            built = Path(work) / "libs"
            built.mkdir()
            _build_into(built, torch_npu)
            try:
                built.rename(target)
            except OSError:  # another process was quicker
                if not target.exists():
                    raise
    return target
