"""int8 by onnxruntime's quantiser: the same faces, a smaller file, and what it refuses."""

import sys

import numpy as np
import pytest

from mmdet.commands import quantize as command
from mmdet.deploy import SCRFD
from mmdet.deploy.export.onnx_file import load_onnx
from mmdet.deploy.export.quantize import last_convolutions, quantize
from mmdet.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def published(shared):
    path = shared / "data/scrfd_onnx/yukkki7__scrfd_500m.onnx"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return path


@pytest.fixture(scope="module")
def photos(shared):
    return shared / "data/photos"


def test_the_last_convolutions_are_found(published):
    """Nine outputs, each behind a convolution of its own; 60 convolutions in all."""
    _, graph = load_onnx(published)
    assert len(last_convolutions(graph.graph)) == 9
    assert sum(node.op_type == "Conv" for node in graph.graph.node) == 60


@pytest.mark.slow
def test_the_same_faces_in_a_third_of_the_file(published, photos, tmp_path, monkeypatch, capsys):
    target = tmp_path / "int8.onnx"
    words = ["scrfd quantize", published, target, "--calibrate", photos, "--images", 6]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    command.main()
    assert f"wrote {target}, calibrated with" in capsys.readouterr().out
    assert (
        3 * target.stat().st_size < 1.2 * published.stat().st_size and target.with_suffix(".json").is_file()
    )
    photo = str(photos / "ternaus__13.jpg")
    exact, small = SCRFD(published), SCRFD(target)
    assert small.model.description.precision == "int8"
    (ours, _), (theirs, kps) = small.detect(photo), exact.detect(photo)
    assert len(ours) == len(theirs) == 3 and kps.shape == (3, 5, 2)
    order = [np.abs(ours[:, :4] - bbox[:4]).sum(1).argmin() for bbox in theirs]
    assert np.abs(ours[order, :4] - theirs[:, :4]).max() < 6  # faces of 70 to 110 px
    assert np.abs(ours[order, 4] - theirs[:, 4]).max() < 0.05


def test_what_is_refused(published, photos, tmp_path):
    (tmp_path / "there.onnx").write_text("")
    with pytest.raises(ConfigError, match="there.onnx exists"):
        quantize(published, tmp_path / "there.onnx", str(photos), 4, False)
    with pytest.raises(ConfigError, match="would overwrite the input"):
        quantize(published, published, str(photos), 4, True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        quantize(published, tmp_path / "a.onnx", str(tmp_path / "empty"), 4, False)
    assert {path.name for path in tmp_path.iterdir()} == {"there.onnx", "empty"}
