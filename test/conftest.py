"""Fixtures every test may use.

Reference numbers and real data live outside the repository, in a folder called `shared` beside the
checkout, or wherever $SCRFD_SHARED points. A test that needs them asks for the fixture `shared` or
`golden` and is skipped, with the reason, where the folder is absent.
"""

import gc
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

# Where torch-npu is installed and CANN is not, a plain `import torch` fails unless this is off.
os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")

REPO = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("SCRFD_SHARED") or REPO.parent / "shared")


@pytest.fixture(scope="session")
def repo() -> Path:
    """Return the root of the checkout."""
    return REPO


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of shared data and golden numbers; skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no shared data at {SHARED}; point SCRFD_SHARED to the folder with golden/ and data/")
    return SHARED


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """Return the folder of the reference's golden numbers."""
    if not (shared / "golden").is_dir():
        pytest.skip(f"no golden numbers at {shared / 'golden'}")
    return shared / "golden"


@pytest.fixture(scope="session")
def golden_fill(golden: Path) -> ModuleType:
    """Return the helper module that made the golden weights, images and ground truths."""
    return load_module(golden / "golden_fill.py")


def load_module(path: Path) -> ModuleType:
    """Import one python file by path, without touching sys.path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Use one torch thread: the tests are small, and several threads only fight for two cores."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip device tests, with a reason, where the device is absent."""
    wanted = {name for name in ("npu", "cuda") if any(name in item.keywords for item in items)}
    missing = {name: reason for name in wanted if (reason := _why_absent(name))}
    for item in items:
        for name, reason in missing.items():
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


def _why_absent(device: str) -> str:
    try:
        import torch

        if device == "npu":
            import torch_npu  # noqa: F401
        present = getattr(torch, device).is_available()
    except ImportError as error:
        return f"no {device}: {error}"
    return "" if present else f"no {device} device on this machine"


@pytest.fixture(autouse=True, scope="module")
def _no_sessions_left():  # noqa: ANN202
    """Destroy what a file's tests left over here, not in a process that a later test forks."""
    yield
    if "onnxruntime" in sys.modules:
        gc.collect()
