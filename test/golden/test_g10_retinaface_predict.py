"""predict_jsons and the folder tool against the original project's results on given heads (golden G10)."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmdet.core.anchors import PriorGenerator
from mmdet.core.coders import PriorCoder
from mmdet.core.structures import Outputs
from mmdet.errors import DataError
from mmdet.retinaface.folder import pad_square, to_annotations
from mmdet.retinaface.predictor import Predictor, fit

NORMALIZE = dict(type="Normalize", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
DEFAULTS = {"cs": 8.0, "c0": 5.0, "ls": 2.0, "ms": 2.0}


class FixedHeads(torch.nn.Module):
    """A network whose outputs are the golden ones of a case, whatever it sees."""

    def __init__(self, golden_fill, case, batch_size=1):
        super().__init__()
        self.anchor_generator = PriorGenerator(
            strides=(8, 16, 32), min_sizes=((16, 32), (64, 128), (256, 512))
        )
        self.coder = PriorCoder()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.cfg = SimpleNamespace(
            data=SimpleNamespace(test={"pipeline": [NORMALIZE]}, val=None), filename="golden"
        )
        self.fill, self.case, self.batch_size = golden_fill, case, batch_size
        self.seen_hw = None

    def forward(self, images):
        height, width = self.seen_hw = tuple(images.shape[2:])
        sizes = tuple((-(-height // s), -(-width // s)) for s in (8, 16, 32))
        n, b = self.anchor_generator.grid(sizes).num_anchors, self.batch_size
        scale = {**DEFAULTS, **self.case["heads"]}
        seed = self.case["seed"]

        def draw(width, factor, number, shift=0.0):
            values = factor * self.fill.hash_uniform(b * n * width, seed + number) - shift
            return torch.tensor(values.reshape(b, n, width)).float()

        logit = draw(1, scale["cs"], 1, scale["c0"])
        classes = torch.cat((torch.zeros_like(logit), logit), dim=-1)
        return Outputs(classes, draw(4, scale["ls"], 0), draw(10, scale["ms"], 2), None, sizes)

    def scores(self, outputs):
        return outputs.cls_logits.softmax(-1)[..., 1:]


def test_predict_jsons(g10, golden_fill):
    for case in g10.json["post"]["predict_jsons"]:
        model = FixedHeads(golden_fill, case)
        predictor = Predictor(model, case["max_size"]).eval()
        image = np.zeros((*case["image_hw"], 3), np.uint8)
        found = predictor.predict_jsons(image, case["confidence"], case["nms"])
        assert list(model.seen_hw) == case["network_input_hw"]
        assert len(found) == case["count"]
        for ours, theirs in zip(found, case["result"], strict=True):
            assert ours["score"] == pytest.approx(theirs["score"], abs=1e-9)
            np.testing.assert_allclose(ours["bbox"], theirs["bbox"], atol=0.011)
            np.testing.assert_allclose(ours["landmarks"], theirs["landmarks"], atol=0.011)


def test_folder_annotations(g10, golden_fill):
    num_values, num_equal = 0, 0
    for case in g10.json["post"]["cli"]:
        predictor = Predictor(FixedHeads(golden_fill, case, case["batch"]), case["max_size"])
        side = case["max_size"]
        images = [np.zeros((*hw, 3), np.uint8) for hw in case["original_shapes"]]
        padded = [pad_square(fit(image, side), side) for image in images]
        outputs = predictor.run([square for square, _ in padded])
        for image, (_, pads), output, expected in zip(images, padded, outputs, case["result"], strict=True):
            found = predictor.decode(output, case["confidence"], case["nms"])
            scale = max(image.shape[:2]) / side
            annotations = to_annotations(found, pads, scale, case["keep_top_k"])
            assert len(annotations) == len(expected)
            for ours, theirs in zip(annotations, expected, strict=True):
                assert ours["score"] == pytest.approx(theirs["score"], abs=1e-6)
                for key in ("bbox", "landmarks"):
                    a, b = np.array(ours[key]), np.array(theirs[key])
                    assert np.abs(a - b).max(initial=0) <= np.ceil(scale)  # a rounding error before the cut
                    num_values, num_equal = num_values + a.size, num_equal + (a == b).sum()
    assert num_equal >= 0.999 * num_values


def test_sizes_and_padding(g10):
    preprocess = g10.json["post"]["preprocess"]
    for name, expected in preprocess["shapes"].items():
        (height, width), max_size = map(int, name.split("@")[0].split("x")), int(name.split("@")[1])
        image = np.zeros((height, width, 3), np.uint8)
        if expected == "error":
            with pytest.raises(DataError, match="no pixels left"):
                fit(image, max_size)
        else:
            assert list(fit(image, max_size).shape[:2]) == expected
    image = fit(g10.npz["resize_input_37x61"], 64)
    padded, pads = pad_square(image, 64)
    assert list(pads) == preprocess["pad_64"]["pads"]
    assert np.abs(padded.astype(int) - g10.npz["padded_64"].astype(int)).max() <= 1
    for side in (48, 64, 122):
        resized = fit(g10.npz["resize_input_37x61"], side).astype(int)
        assert np.abs(resized - g10.npz[f"longest_max_size_{side}"].astype(int)).max() <= 1
