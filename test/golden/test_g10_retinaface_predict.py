"""predict_jsons, folder tool, validation and learning rates against the original projects (golden G10)."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from mmdet.config.types import LrConfig
from mmdet.core.anchors import PriorGenerator
from mmdet.core.coders import PriorCoder
from mmdet.core.postprocess import Postprocess
from mmdet.core.structures import Outputs
from mmdet.engine.schedule import Schedule
from mmdet.errors import DataError
from mmdet.evaluation.retinaface_map import average_precision
from mmdet.retinaface.folder import FolderOptions, pad_square, predict_folder, to_annotations
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


def rows_by_image(rows, names=("p.jpg", "q.jpg")):
    return {name: np.array([row[1:] for row in rows if row[0] == name]) for name in names}


def test_validation(g10, golden_fill):
    """Its detections on whole images, cut at the left and upper border only, and the figure it logs."""
    postprocess = Postprocess(score_thr=0.1, iou_thr=0.4, clip_border=False)
    for case in g10.json["val"]:
        heads = FixedHeads(golden_fill, case, batch_size=2)
        found = postprocess(heads, heads(torch.zeros(2, 3, 320, 320)), [(320, 320)] * 2, [(1.0, 1.0)] * 2)
        expected = rows_by_image(case["predictions"])
        for rows, image in zip(expected.values(), found, strict=True):
            bboxes = image.bboxes.clone()
            bboxes[:, :2].clamp_(min=0)
            bboxes[:, 2:] -= bboxes[:, :2]
            np.testing.assert_allclose(bboxes, rows.reshape(-1, 5)[:, :4], atol=1e-3)
            np.testing.assert_allclose(image.scores, rows.reshape(-1, 5)[:, 4], atol=1e-6)
        gt, more = rows_by_image(case["gt"]), rows_by_image([*case["predictions"], *case["extra"]])
        with_rows = {name: rows.reshape(-1, 5) for name, rows in expected.items()}
        assert average_precision(gt, with_rows).ap == pytest.approx(case["logged_val_loss"][0], rel=1e-12)
        (logged,) = case["logged_val_loss_with_extra"]
        assert average_precision(gt, more).ap == pytest.approx(logged, rel=1e-12)


class HeadsInTurn(FixedHeads):
    """Heads of another seed for each image."""

    def __init__(self, golden_fill, seeds_and_shifts):
        super().__init__(golden_fill, {})
        self.waiting = list(seeds_and_shifts)

    def forward(self, images):
        seed, shift = self.waiting.pop(0)
        self.case = {"seed": seed, "heads": {"c0": shift}}
        return super().forward(images)


def test_the_folder_tool(g10, golden_fill, tmp_path):
    """Its files of three black images; ours keep the whole path of an image below the folder."""
    case = g10.json["cli_e2e"]
    for name, (width, height) in case["inputs"]:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "in" / name), np.zeros((height, width, 3), np.uint8))
    predictor = Predictor(HeadsInTurn(golden_fill, [(9010, 6.9), (9020, 6.9), (9030, 20.0)]), max_size=256)
    options = FolderOptions(visualize=True, batch_size=1)
    assert predict_folder(predictor, tmp_path / "in", tmp_path / "out", options) == 2
    places = {"labels/fold/a.json": "labels/fold/a.json", "labels/fold/deep/b.x.json": "labels/deep/b.x.json"}
    written = sorted((tmp_path / "out/labels").rglob("*.json"))
    assert [str(path.relative_to(tmp_path / "out")) for path in written] == list(places)
    for path, theirs in zip(written, places.values(), strict=True):
        text, expected = path.read_text(), case["outputs"][theirs]
        ours = json.loads(text)
        assert ours["file_name"] == expected["file_name"]
        assert text.startswith('{\n  "file_name": ')
        for face, other in zip(ours["annotations"], expected["annotations"], strict=True):
            assert face["score"] == pytest.approx(other["score"], abs=1e-6)
            for key in ("bbox", "landmarks"):  # a rounding error before the cut to whole pixels
                assert np.abs(np.array(face[key]) - other[key]).max() <= 1
    for name, theirs in (("fold/a.jpg", "viz/fold/a.jpg"), ("fold/deep/b.x.jpg", "viz/deep/b.x.jpg")):
        width, height = case["outputs"][theirs]
        assert cv2.imread(str(tmp_path / "out/viz" / name)).shape == (height, width, 3)


def test_learning_rates(g10):
    expected = g10.json["lr"]
    ternaus = Schedule(LrConfig(policy="CosineRestarts", T_0=10, T_mult=2), 0.001, 7, 150)
    rates = [ternaus.lr_at(7 * epoch + 3) for epoch in range(150)]
    np.testing.assert_allclose(rates, expected["ternaus_epoch_lr"], rtol=1e-12)
    for name, step, epochs in (("mnet", (190, 220), 250), ("re50", (70, 90), 100)):
        schedule = Schedule(LrConfig(policy="step", step=step), 0.001, 7, epochs)
        for epoch, rate in expected["biubug6"][name].items():
            assert schedule.lr_at(7 * int(epoch)) == pytest.approx(rate, rel=1e-12)
    # Resumed at epoch 200 it misses the drop of 190; ours is a function of the iteration alone.
    missed = expected["biubug6"]["mnet_resumed_at_200"]["200"]
    step = Schedule(LrConfig(policy="step", step=(190, 220)), 0.001, 7, 250)
    assert step.lr_at(7 * 200) == pytest.approx(missed / 10)
