"""Reference numbers of the second golden folder."""

import json
from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture(scope="session")
def g10(shared):
    folder = shared / "golden2"
    if not folder.is_dir():
        pytest.skip(f"no golden numbers at {folder}")
    numbers = json.loads((folder / "g10_retinaface.json").read_text())
    with np.load(folder / "g10_retinaface.npz") as arrays:
        return SimpleNamespace(json=numbers, npz=dict(arrays))
