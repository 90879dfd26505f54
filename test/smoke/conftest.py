from pathlib import Path

import pytest

from mmdet.datasets.toy.faces import write_toy_faces


@pytest.fixture(scope="session")
def faces(tmp_path_factory) -> Path:
    """Return a folder with 10 drawn training images (8 or more with faces) and 3 for validation."""
    folder = tmp_path_factory.mktemp("faces")
    write_toy_faces(folder, 10, 3, seed=1, size=(128, 160))
    return folder
