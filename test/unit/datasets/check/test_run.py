"""A data set with one problem of every kind, found in one pass; the cleaned copy has none."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mmdet.config.types import DataConfig
from mmdet.datasets.check.problems import LabelledSet
from mmdet.datasets.check.run import check_sets, find_sets, sets_of
from mmdet.datasets.check.statistics import measure
from mmdet.datasets.labels import read_labels
from mmdet.errors import DataError

POINTS = "20 20 0 30 20 0 25 25 0 21 30 0 29 30 0"
LABELS = f"""\
# a.png 80 60
10 10 40 50 {POINTS}
10 10 40 50{" 0 0 0" * 5}
10 10 40 50{" .1 .2 1" * 5}
30 10 20 50 0
10 10 40 50 7
10 10 40 x 0
10 10 40
200 200 240 240 0
10 10 100 50 0
5 5 5 5 0
0.1 0.1 0.2 0.2 0
# missing.png 80 60
10 10 40 50 0
# broken.png 80 60
10 10 40 50 0
# half.png 160 120
10 10 40 50 0
# no_size.png
10 10 40 50 0
# b.png 80 60
1 1 9 9 0
# b.png 80 60
10 10 41 50 1
"""


def noise(seed):
    return cv2.resize(np.random.RandomState(seed).randint(0, 256, (6, 8, 3)).astype(np.uint8), (80, 60))


@pytest.fixture
def root(tmp_path):
    for split in ("train", "val"):
        (tmp_path / "d" / split / "images").mkdir(parents=True)
    images = tmp_path / "d" / "train" / "images"
    for seed, name in enumerate(("a", "half", "no_size", "b")):
        cv2.imwrite(str(images / f"{name}.png"), noise(seed))
    (images / "broken.png").write_bytes(b"")
    (images.parent / "labelv2.txt").write_text(LABELS)
    val = tmp_path / "d" / "val"
    cv2.imwrite(str(val / "images" / "other.jpg"), noise(3), [cv2.IMWRITE_JPEG_QUALITY, 80])  # b.png again
    cv2.imwrite(str(val / "images" / "a.png"), noise(9))
    (val / "labelv2.txt").write_text("# other.jpg 80 60\n10 10 40 50 0\n# a.png 80 60\n10 10 40 50 0\n")
    return tmp_path / "d"


def kinds(problems):
    return {problem.kind: problem.count for problem in problems}


@pytest.mark.slow
def test_every_kind_is_found_with_its_place(root, tmp_path):
    found = check_sets(find_sets(root), tmp_path / "out", decode=True, fix=tmp_path / "fix")
    bad = {problem.what: problem.examples for problem in found["train"] if problem.kind == "bad lines"}
    path = root / "train" / "labelv2.txt"
    assert {
        what.split(" in ")[0][:22]: [e.rsplit(":", 1)[1] for e in places] for what, places in bad.items()
    } == {
        "x2=20 < x1=30": ["5"],
        "fifth value 7; write 0": ["6"],
        "'x' is not a number": ["7"],
        "3 values; expected 4": ["8"],
        "expected '# name width": ["19"],
    }
    others = {p.kind: (p.count, p.examples[0]) for p in found["train"] if p.kind != "bad lines"}
    assert others == {
        "normalised": (1, f"{path}:12 in a.png"),
        "tiny": (1, f"{path}:11 in a.png"),
        "outside": (1, f"{path}:9 in a.png"),
        "zero points": (1, f"{path}:3 in a.png"),
        "far points": (1, f"{path}:4 in a.png"),
        "repeated names": (1, "b.png"),
        "beyond the image": (2, f"{path}:9 in a.png"),
        "missing images": (1, "missing.png"),
        "unreadable images": (1, f"image {root}/train/images/broken.png is empty"),
        "wrong size": (1, "half.png: 80x60 px, the labels say 160x120"),
    }
    assert kinds(found["both sets"]) == {"names in both sets": 1, "same image in both sets": 1}
    assert found["both sets"][1].examples == ["b.png and other.jpg"]
    cleaned = read_labels(tmp_path / "fix/train/labelv2.txt", train=False)
    assert cleaned.names == ("a.png", "half.png", "b.png") and cleaned.sizes_hw.tolist() == [[60, 80]] * 3
    assert len(cleaned[0].bboxes) == 4 and len(cleaned[2].bboxes_ignore) == 1
    again = check_sets(
        {"fixed": LabelledSet(tmp_path / "fix/train/labelv2.txt", root / "train/images")}, None
    )
    assert set(kinds(again["fixed"])) == {"far points", "beyond the image"}
    assert path.read_text() == LABELS


def test_reports(root, tmp_path):
    check_sets(find_sets(root), tmp_path / "out")
    for name in ("train", "val"):
        folder = tmp_path / "out" / name
        report = json.loads((folder / "report.json").read_text())
        assert report["statistics"]["faces"] == (11 if name == "train" else 2)
        assert cv2.imread(str(folder / "plots.png")).shape == (700, 1100, 3)
        assert cv2.imread(str(folder / "contact_sheet.jpg")).shape == (240, 1440, 3)
        assert "plots.png" in (folder / "report.html").read_text()


def test_statistics_by_hand(tmp_path):
    faces = f"10 10 40 50 {POINTS}\n0 0 20 20 0\n0 0 9 9 1\n"
    text = f"# a.jpg 1280 320\n{faces}# b.jpg 320 640\n# c.jpg 64 64\n0 0 8 2 0\n"
    (tmp_path / "l.txt").write_text(text)
    found = measure(read_labels(tmp_path / "l.txt", train=False))
    assert found.faces_per_image.tolist() == [2, 0, 1]
    np.testing.assert_allclose(found.side_px, [1200**0.5, 20, 4])
    np.testing.assert_allclose(found.network_px, [1200**0.5 / 2, 10, 40])
    np.testing.assert_allclose(found.aspect, [0.75, 1, 4])
    np.testing.assert_allclose(found.center_xy[2], [4 / 64, 1 / 64])
    assert found.share_with_kps == pytest.approx(1 / 3) and found.per_class == {"FG": 3}


def test_boxes_that_look_like_x_y_w_h(tmp_path):
    rows = "".join(f"{10 + i} {10 + i} {30 + i} {40 + i} 0\n" for i in range(25))
    (tmp_path / "labelv2.txt").write_text(f"# a.jpg 640 480\n{rows}")
    found = check_sets(find_sets(tmp_path), None)[tmp_path.name]
    assert kinds(found) == {"x y w h": 25, "no images": 1}


def test_gt_of_other_labels(root):
    from mmdet.evaluation.widerface.mat import write_wider_gt

    val = root / "val"
    write_wider_gt(val / "labelv2.txt", val / "gt")
    assert check_sets({"val": find_sets(root)["val"]}, None) == {"val": []}
    (val / "labelv2.txt").write_text("# other.jpg 80 60\n1 1 9 9 0\n2 2 9 9 0\n")
    found = check_sets({"val": find_sets(root)["val"]}, None)["val"]
    assert kinds(found) == {"gt without labels": 1, "gt and labels differ": 1}
    assert found[1].examples == ["images/other: 1 and 2"]


def test_a_folder_without_labels_and_a_file_that_is_none(tmp_path):
    with pytest.raises(DataError, match="no train/labelv2.txt, val/labelv2.txt or labelv2.txt"):
        find_sets(tmp_path)
    (tmp_path / "labelv2.txt").write_text("")
    [[problem]] = check_sets(find_sets(tmp_path), None).values()
    assert problem.kind == "unreadable labels" and "is empty" in problem.what


@pytest.mark.slow
def test_command_line(repo, root, tmp_path):
    tool = [sys.executable, str(repo / "tools/check_dataset.py"), str(root), "--out", str(tmp_path / "out")]
    answer = subprocess.run(tool, capture_output=True, text=True)
    assert answer.returncode == 1 and "train: 15 kinds of problems" in answer.stdout, answer.stderr
    answer = subprocess.run(tool, capture_output=True, text=True)
    assert answer.returncode == 2 and "out exists; give another name" in answer.stderr


def test_sets_of_a_config():
    train = {"ann_file": ["a.txt", "b.txt"], "img_prefix": "i", "num_kps": 3}
    val = {"ann_file": "v.txt", "img_prefix": "j"}
    found = sets_of(DataConfig(train=train, val=val))
    assert {name: (str(one.ann_file), str(one.img_prefix), one.num_kps) for name, one in found.items()} == {
        "train": ("a.txt", "i", 3), "train_2": ("b.txt", "i", 3), "val": ("v.txt", "j", 5)}  # fmt: skip
    assert list(sets_of(DataConfig(train=train, val=train, val_split=0.1))) == ["train", "train_2"]
    assert sets_of(DataConfig(train=val)).keys() == {"train"}
