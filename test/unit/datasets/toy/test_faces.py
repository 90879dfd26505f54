"""The toy data set: same seed same bytes, labels that fit the picture, files that load."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdet.datasets.labels import read_labels
from mmdet.datasets.toy.draw import draw_head, paste_head
from mmdet.datasets.toy.faces import ToyFace, ToyImage, draw_toy_image, label_lines, write_toy_faces
from mmdet.errors import ConfigError, DataError
from mmdet.evaluation import read_wider_gt, wider_evaluation


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.suffix in (".jpg", ".txt")]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def toy_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    write_toy_faces(folder, train=24, val=12, seed=3)
    return folder


def test_label_lines_by_hand():
    kps = np.arange(10, dtype=float).reshape(5, 2)
    faces = (
        ToyFace(np.array([1.0, 2, 30.126, 40]), kps, False),
        ToyFace(np.array([1.0, 2, 30, 40]), None, False),
        ToyFace(np.array([1.0, 2, 5, 6]), None, True),
    )
    toy = ToyImage(np.zeros((48, 64, 3), np.uint8), faces, "1--Group/x.jpg", 90)
    assert list(label_lines(toy)) == [
        "# 1--Group/x.jpg 64 48",
        "1.00 2.00 30.13 40.00 0.00 1.00 0 2.00 3.00 0 4.00 5.00 0 6.00 7.00 0 8.00 9.00 0",
        "1.00 2.00 30.00 40.00 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1",
        "1.00 2.00 5.00 6.00 1",
    ]


def test_image_depends_on_seed_split_and_index_only():
    one, again = draw_toy_image(1, "train", 7), draw_toy_image(1, "train", 7)
    assert np.array_equal(one.image, again.image) and one.name == again.name
    for other in (draw_toy_image(2, "train", 7), draw_toy_image(1, "val", 7), draw_toy_image(1, "train", 8)):
        assert one.image.shape != other.image.shape or not np.array_equal(one.image, other.image)


def test_same_bytes_whatever_the_count_and_the_workers(toy_set, tmp_path):
    write_toy_faces(tmp_path, train=20, val=12, seed=3, workers=2)
    few, many = digests(tmp_path), digests(toy_set)
    assert {name: many[name] for name in few if name.endswith(".jpg")} == {
        name: digest for name, digest in few.items() if name.endswith(".jpg")
    }
    assert few["val/labelv2.txt"] == many["val/labelv2.txt"]
    text = (toy_set / "train" / "labelv2.txt").read_text()
    assert text.startswith((tmp_path / "train" / "labelv2.txt").read_text())


def test_labels_lie_in_the_image_and_points_in_the_face():
    toys = [draw_toy_image(0, "train", index) for index in range(60)]
    faces = [(toy, face) for toy in toys for face in toy.faces]
    for toy, face in faces:
        height, width = toy.image.shape[:2]
        x1, y1, x2, y2 = face.bbox
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        if face.kps is not None:
            margin = 0.1 * (face.bbox[2:] - face.bbox[:2])
            assert (face.kps > face.bbox[:2] - margin).all() and (face.kps < face.bbox[2:] + margin).all()
            assert not face.is_ignored
    assert any(not toy.faces for toy in toys)
    assert any(len(toy.faces) > 10 for toy in toys)
    assert any(face.is_ignored for _, face in faces)
    assert any(face.kps is None and not face.is_ignored for _, face in faces)
    heights = np.array([face.bbox[3] - face.bbox[1] for _, face in faces])
    assert (np.percentile(heights, [10, 90]) > [8, 60]).all() and heights.max() < 300


def test_points_follow_the_drawing():
    """Upright, the left eye is left of the right one; turned by 90 degrees clockwise, above it."""
    head = draw_head(np.random.RandomState(0))
    image = np.zeros((200, 200, 3), np.uint8)
    upright = paste_head(image, head, np.array([100.0, 100]), 0.5, 0.0, 0.0)
    assert upright[0, 0] < upright[1, 0] and upright[2, 1] > upright[:2, 1].max()
    assert image.any()
    turned = paste_head(image, head, np.array([100.0, 100]), 0.5, np.pi / 2, 0.0)
    np.testing.assert_allclose(
        turned - 100, np.stack([100 - upright[:, 1], upright[:, 0] - 100], axis=1), atol=1e-9
    )


def test_head_outside_the_picture_changes_nothing():
    image = np.full((50, 50, 3), 7, np.uint8)
    paste_head(image, draw_head(np.random.RandomState(0)), np.array([500.0, 500]), 0.5, 0.1, 1.0)
    assert (image == 7).all()


def test_written_files_load(toy_set):
    labels = read_labels(toy_set / "train" / "labelv2.txt", train=True, filter_empty_gt=False)
    assert len(labels) == 24
    for record in labels:
        image = cv2.imread(str(toy_set / "train" / "images" / record.name))
        assert image.shape[:2] == record.size_hw


def test_ground_truth_accepts_the_labels_as_predictions(toy_set):
    """The faces themselves, as detections with distinct scores, give AP 1."""
    score = iter(np.linspace(1, 0.1, 10_000))
    predictions: dict = {}
    for image in read_wider_gt(toy_set / "val" / "gt"):
        rows = [[*bbox, next(score)] for bbox in image.bboxes_xywh]
        predictions.setdefault(image.event, {})[image.name] = np.array(rows).reshape(-1, 5)
    assert sum(len(images) for images in predictions.values()) == 12
    ap = wider_evaluation(predictions, toy_set / "val" / "gt")
    assert ap[2] == pytest.approx(1.0)


@pytest.mark.parametrize("change", [{"train": -1}, {"seed": -1}, {"size": (500, 400)}, {"size": (8, 400)}])
def test_senseless_arguments(tmp_path, change):
    with pytest.raises(ConfigError, match="64 <= smallest long side"):
        write_toy_faces(tmp_path / "x", **{"train": 1, "val": 1, **change})
    assert not (tmp_path / "x").exists()


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write the toy data set"):
        write_toy_faces(tmp_path / "file", train=1, val=0)
