"""Small ONNX detectors whose faces are known: white squares on black. And tools run in this process."""

import importlib.util
import os
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

# Read once, when the first video is opened; tools/scrfd.py sets it, too.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
TOOLS = Path(__file__).resolve().parents[3] / "tools"


class Spots(nn.Module):
    """Scores a cell by its brightness; boxes reach one stride around the centre, keypoints half a one.

    A square of s white pixels at (x, y), multiples of a stride s, gives x - s, y - s, x + s, y + s and five
    points at x + s / 2, y + s / 2, with score 0.998; cells of the next stride see a quarter of it.
    """

    def __init__(self, strides=(8, 16, 32), num_anchors=2, has_kps=True, has_batch_axis=True):
        super().__init__()
        self.strides, self.num_anchors = strides, num_anchors
        self.has_kps, self.has_batch_axis = has_kps, has_batch_axis

    def forward(self, images):
        scores, bboxes, kps = [], [], []
        for stride in self.strides:
            bright = nn.functional.avg_pool2d(images[:, :1], stride) * 0.5 + 0.5  # (N, 1, h, w)
            first = bright.flatten(1)[..., None]  # (N, h * w, 1)
            cells = torch.cat([first] + [first * 0] * (self.num_anchors - 1), dim=2)
            score = cells.reshape(cells.shape[0], -1, 1)
            score = score if self.has_batch_axis else score[0]
            scores.append(score)
            bboxes.append(torch.cat([score * 0 + 1] * 4, dim=-1))
            kps.append(torch.cat([score * 0 + 0.5] * 10, dim=-1))
        return tuple(scores + bboxes + (kps if self.has_kps else []))


def export_spots(path, *, hw=None, batch=None, **kwargs):
    """Write a Spots detector; hw, batch: fixed sizes, None: open."""
    module = Spots(**kwargs)
    num = len(module.strides) * (3 if module.has_kps else 2)
    names = [f"out_{number}" for number in range(num)]
    axes = ({} if batch else {0: "N"}) | ({} if hw else {2: "H", 3: "W"})
    first = {} if batch or not module.has_batch_axis else {0: "N"}
    row_axis = int(module.has_batch_axis)
    rows = {name: {} if hw else {row_axis: f"A_{name}"} for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.zeros(batch or 1, 3, *(hw or (640, 640))),), str(path), dynamo=False,
            input_names=["image"], output_names=names, opset_version=17,
            dynamic_axes={"image": axes} | {name: first | rows[name] for name in names},
        )  # fmt: skip
    return path


@pytest.fixture(scope="session")
def spots(tmp_path_factory):
    """Return the path of a detector of white squares for any size and batch."""
    return export_spots(tmp_path_factory.mktemp("spots") / "spots.onnx")


@pytest.fixture
def run_tool(monkeypatch, capfd):
    """Return a function (name of a tool, *arguments) -> (exit code, stdout, stderr), run in this process."""

    def run(name, *args):
        spec = importlib.util.spec_from_file_location(f"tool_{name}", TOOLS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, args)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        spec.loader.exec_module(module)
        from mmdet.cli import run_cli

        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_cli(module.main)
        captured = capfd.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return run
