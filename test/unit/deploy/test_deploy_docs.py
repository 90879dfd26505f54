"""docs/deploy.md: its worked example is true, and its commands have the options they use."""

import ast
import re
import subprocess
import sys

import cv2
import numpy as np
import onnxruntime
import pytest

from mmdet.deploy.export.export_onnx import OPSETS
from mmdet.deploy.export.om_check import LARGEST_OPSET
from mmdet.deploy.runtime.coders import DistanceDecoder
from mmdet.deploy.runtime.decode import decode_level, level_anchors
from mmdet.deploy.runtime.letterbox import letterbox, to_blob
from mmdet.deploy.web.server import LARGEST_UPLOAD


@pytest.fixture(scope="module")
def text(repo):
    return (repo / "docs" / "deploy.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def example(text):
    """Return {first words of a line: its numbers} of the worked example."""
    (block,) = [block for block in text.split("```") if "best row" in block]
    rows = re.findall(r"^(\w[\w\[\] ]*?)  +(.*)$", block, re.MULTILINE)
    return {name: [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", rest)] for name, rest in rows}


def test_the_formulas_of_the_example_by_hand(example):
    width, height, above, below, scale = example["new size"]
    assert (width, height, above, below, scale) == (640, 443, 443, 886, 0.5) and above / below == scale
    assert int(640 * 886 / 1280) == 443
    blue, green, red, *normalised = example["pixel"]
    assert [(value - 127.5) / 128 for value in (red, green, blue)] == pytest.approx(normalised, abs=1e-6)
    stride, i, _, index, score = example["best row"]
    assert i == index and score == 0.8795
    columns = -(-640 // int(stride))
    row, column = divmod(int(i) // 2, columns)
    assert example["cell"] == [i, 2, i // 2, columns, row, column, column * stride, row * stride]
    cx, cy = example["cell"][-2:]
    left, top, right, bottom = example["bbox_16[1090]"]
    box = np.array([cx - left * stride, cy - top * stride, cx + right * stride, cy + bottom * stride])
    assert example["in the input"][1::2] == pytest.approx(box, abs=0.006)
    assert example["in the picture"][1::2] == pytest.approx(box / scale, abs=0.012)
    dx, dy, kx, ky, px, py = example["kps_16[1090]"]
    assert (cx + dx * stride, cy + dy * stride) == pytest.approx((kx, ky), abs=0.006)
    assert (kx / scale, ky / scale) == pytest.approx((px, py), abs=0.012)


def test_our_decoding_agrees_with_the_example(example):
    scores, bbox, kps = np.zeros((1, 3200, 1)), np.zeros((1, 3200, 4)), np.zeros((1, 3200, 10))
    scores[0, 1090, 0] = 0.8795
    bbox[0, 1090] = example["bbox_16[1090]"]
    kps[0, 1090, :2] = example["kps_16[1090]"][:2]
    _, found = decode_level(scores, bbox, kps, level_anchors(40, 40, 16, 2), DistanceDecoder(), 0.5)
    (row,) = found.scaled(0.5).bboxes
    assert row == pytest.approx([*example["in the picture"][1::2], 0.8795], abs=0.012)
    assert found.scaled(0.5).kps[0, 0] == pytest.approx(example["kps_16[1090]"][-2:], abs=0.012)


def test_the_numbers_of_the_example_come_from_the_published_file(example, shared):
    image = cv2.imread(str(shared / "data" / "photos" / "insightface__t1.jpg"))
    canvas, scale = letterbox(image, (640, 640))
    blob = to_blob([canvas], (127.5,) * 3, (128.0,) * 3)
    blue, green, red, *normalised = example["pixel"]
    place = np.argwhere((canvas == (blue, green, red)).all(axis=-1))[0]
    assert image.shape == (886, 1280, 3) and scale == 0.5
    assert blob[0, :, place[0], place[1]] == pytest.approx(normalised, abs=1e-6)
    path = shared / "data" / "scrfd_onnx" / "yukkki7__scrfd_500m.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    raw = session.run(None, {"input.1": blob})
    assert [out.name for out in session.get_outputs()][:4] == ["443", "468", "493", "446"]  # as the text says
    assert [len(out) for out in raw[:3]] == [12800, 3200, 800]
    best = max(float(out.max()) for out in raw[:3])
    assert raw[1][1090, 0] == best == pytest.approx(0.8795, abs=1e-4)
    assert raw[4][1090] == pytest.approx(example["bbox_16[1090]"], abs=1e-4)
    assert raw[7][1090, :2] == pytest.approx(example["kps_16[1090]"][:2], abs=1e-4)


@pytest.mark.slow
def test_commands_name_tools_and_options_that_exist(repo, text):
    commands = re.findall(r"^(?:\$ )?(python|bash) (tools/\S+)(.*)$", text, re.MULTILINE)
    assert len({tool for _, tool, _ in commands}) >= 8
    helps = {}
    for program, tool, rest in commands:
        if tool not in helps:
            command = [sys.executable if program == "python" else "bash", tool]
            command += ["infer"] if "benchmark" in tool else []
            done = subprocess.run([*command, "--help"], cwd=repo, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, tool
            helps[tool] = done.stdout
        for option in re.findall(r"(--[a-z][\w-]*)", rest.partition(" # ")[0]):
            assert re.search(rf"{option}\b", helps[tool]), f"{tool} {option}"
        for config in re.findall(r"configs/\S+\.py", rest):
            assert (repo / config).is_file(), config


def test_python_of_the_text_compiles(text):
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        ast.parse(block)


def test_limits_of_the_text_are_those_of_the_code(text):
    assert f"opset {LARGEST_OPSET + 1}; export it with --opset {LARGEST_OPSET} or lower" in text
    assert f"`--opset {OPSETS[0]}` ... `{OPSETS[-1]}`" in text
    assert f"more than {LARGEST_UPLOAD >> 20} MiB 413" in text
