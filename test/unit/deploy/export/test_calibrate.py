"""BatchNorm read from ONNX gets its statistics back: same in eval mode, close to the original in training."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from mmdet.apis import init_detector
from mmdet.deploy.export.calibrate import calibrate, set_statistics
from mmdet.deploy.export.convert import convert
from mmdet.deploy.runtime.description import Description
from mmdet.deploy.runtime.letterbox import letterbox, to_blob
from mmdet.errors import ConfigError, DataError
from mmdet.images import read_image

CONFIG = "configs/scrfd/scrfd_500m_bnkps.py"


def test_new_statistics_by_hand():
    """With y = 2 (x - 1) / 2 + 3 = x + 2; with mean 4 and variance 9 that is 3 (x - 4) / 3 + 6."""
    layer = nn.BatchNorm2d(1, eps=0.0).eval()
    for name, value in (("weight", 2.0), ("bias", 3.0), ("running_mean", 1.0), ("running_var", 4.0)):
        layer.state_dict()[name].fill_(value)
    x = torch.arange(4.0).reshape(1, 1, 2, 2)
    assert torch.equal(layer(x), x + 2)
    set_statistics(layer, torch.tensor([4.0]), torch.tensor([9.0]))
    assert [float(layer.state_dict()[n]) for n in ("weight", "bias", "running_mean", "running_var")] == [
        3,
        6,
        4,
        9,
    ]
    torch.testing.assert_close(layer(x), x + 2)


def test_a_layer_that_never_changes_stays_finite():
    layer = nn.BatchNorm2d(1).eval()
    set_statistics(layer, torch.zeros(1), torch.zeros(1))
    torch.testing.assert_close(layer(torch.ones(1, 1, 1, 1)), torch.ones(1, 1, 1, 1), rtol=1e-4, atol=0)


def test_mistakes(tmp_path):
    model = init_detector(CONFIG, device="cpu")
    with pytest.raises(DataError, match="no picture and no video"):
        calibrate(model, tmp_path, Description((8, 16, 32), 2, 5))
    with pytest.raises(ConfigError, match="--calibrate is for ONNX files"):
        convert("a.pth", "b.pth", CONFIG, tmp_path)


def run(model, images, is_training):
    """Return all scores, and all distances."""
    model = copy.deepcopy(model).train(is_training)
    with torch.no_grad():
        cls, bbox, _ = model.raw(images)
    return torch.cat([m.sigmoid().flatten() for m in cls]), torch.cat([m.flatten() for m in bbox])


def apart(some, others):
    return [float((a - b).abs().mean()) for a, b in zip(some, others, strict=True)]


@pytest.mark.slow
def test_published_weights_can_be_fine_tuned(shared, tmp_path):
    """In train mode the result is as near to the original checkpoint as that is to its own eval mode."""
    data = shared / "data"
    source = data / "scrfd_onnx" / "yukkki7__scrfd_500m.onnx"
    pictures = data / "facemask853" / "images"
    lines = convert(source, tmp_path / "new.pth", CONFIG, pictures)
    assert lines[2] == "statistics of 41 BatchNorm layers from 16 pictures"
    assert float(lines[3].split()[-1]) < 1e-4
    convert(source, tmp_path / "plain.pth", CONFIG)
    (original,) = (data / "scrfd_pth").glob("*.pth")
    models = {path.stem: init_detector(CONFIG, path, device="cpu") for path in tmp_path.glob("*.pth")}
    models["original"] = init_detector(CONFIG, original, device="cpu")
    files = sorted(pictures.iterdir())[5:800:200]
    canvases = [letterbox(read_image(path), (320, 320))[0] for path in files]
    images = torch.from_numpy(to_blob(canvases, (127.5,) * 3, (128.0,) * 3))
    trained = {name: run(model, images, is_training=True) for name, model in models.items()}
    evaluated = {name: run(model, images, is_training=False) for name, model in models.items()}
    assert apart(evaluated["new"], evaluated["original"]) == pytest.approx([0, 0], abs=1e-5)
    nature = apart(trained["original"], evaluated["original"])
    assert all(np.array(apart(trained["new"], trained["original"])) < 2 * np.array(nature))
    assert all(np.array(apart(trained["plain"], trained["original"])) > 5 * np.array(nature))
