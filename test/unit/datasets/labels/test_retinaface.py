"""The label formats of the two RetinaFace projects: what they mean, what is refused, what is written."""

import json

import numpy as np
import pytest

from mmdet.datasets.labels import read_labels
from mmdet.datasets.labels.retinaface_json import read_ternaus_json, write_ternaus_json
from mmdet.datasets.labels.retinaface_txt import read_retinaface_txt, write_retinaface_txt
from mmdet.errors import DataError

POINTS = [[20, 30], [40, 30], [30, 40], [22, 50], [38, 50]]
NONE = [[-1, -1]] * 5
IMAGES = [
    {
        "file_name": "ev/a b.jpg",
        "annotations": [
            {"bbox": [10, 20, 50.5, 60], "landmarks": POINTS},
            {"bbox": [1, 2, 9, 9], "landmarks": NONE},
            {"bbox": [5, 5, 9, 9], "landmarks": []},
            {"bbox": [-5, 5, 9, 9]},
        ],
    },
    {"file_name": "ev/none.jpg", "annotations": []},
]


def write(path, images):
    path.write_text(json.dumps(images))
    return path


def test_a_json_file_is_read(tmp_path):
    labels = read_ternaus_json(write(tmp_path / "label.json", IMAGES), train=True)
    assert labels.names == ("ev/a b.jpg", "ev/none.jpg")
    assert not labels.sizes_hw.any()  # the format does not say
    assert labels.bboxes.tolist() == [[10, 20, 50.5, 60], [1, 2, 9, 9], [5, 5, 9, 9], [-5, 5, 9, 9]]
    assert labels.kps[..., 2].tolist() == [[1] * 5, [0] * 5, [0] * 5, [0] * 5]
    assert labels.kps[0, :, :2].tolist() == POINTS


@pytest.mark.parametrize("kind", ["ternaus-json", "retinaface-txt"])
def test_what_is_written_reads_back_equal(tmp_path, kind):
    labels = read_ternaus_json(write(tmp_path / "label.json", IMAGES), train=True)
    writers = {"ternaus-json": write_ternaus_json, "retinaface-txt": write_retinaface_txt}
    writers[kind](labels, tmp_path / "again")
    again = read_labels(tmp_path / "again", kind, train=True, filter_empty_gt=False)
    assert again.names == labels.names
    np.testing.assert_array_equal(again.bboxes, labels.bboxes)
    np.testing.assert_array_equal(again.kps, labels.kps)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_name": "a.jpg"}, r'entry 1 \(a.jpg\): key "annotations" is missing'),
        ({"annotations": []}, 'entry 1: key "file_name" is missing'),
        ("text", 'entry 1: key "file_name" is missing'),
        ({"file_name": "a.jpg", "annotations": [{}]}, 'annotation 0: key "bbox" is missing'),
        ({"file_name": "a.jpg", "annotations": [{"bbox": [1, 2, 3]}]}, r'"bbox" = \[1, 2, 3\]: expected 4'),
        (
            {"file_name": "a.jpg", "annotations": [{"bbox": [1, 2, 3, 4], "landmarks": POINTS[:4]}]},
            "expected 5 x 2 numbers",
        ),
        ({"file_name": "a.jpg", "annotations": [{"bbox": [1, 2, 3, None]}]}, "expected 4 numbers"),
    ],
)
def test_a_json_file_of_another_shape_names_the_entry_and_the_key(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        read_ternaus_json(write(tmp_path / "label.json", [IMAGES[0], change]), train=True)


@pytest.mark.parametrize("text", ["{}", "[]", "[1", "3"])
def test_what_is_no_list_of_images_is_refused(tmp_path, text):
    (tmp_path / "label.json").write_text(text)
    with pytest.raises(DataError, match=r"label\.json"):
        read_ternaus_json(tmp_path / "label.json", train=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3 4\n", "txt:1: expected '# name' first"),
        ("# a.jpg\n1 2 3\n", "txt:2: 3 values"),
        ("# a.jpg\n1 2 x 4\n", "txt:2: not a number"),
        ("# a.jpg\n1 2 -3 4\n", "txt:2: box .* negative size"),
        ("", "is empty"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, message):
    (tmp_path / "label.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_retinaface_txt(tmp_path / "label.txt", train=True)


def test_the_files_of_the_shared_cases(shared):
    folder = shared / "cases/retinaface"
    if not folder.is_dir():
        pytest.skip(f"no cases at {folder}")
    images = read_ternaus_json(folder / "labels.json", train=True)
    assert [len(record.bboxes) for record in images] == [4, 0, 1]
    assert images[0].kps[..., 2].all(1).tolist() == [True, False, False, False]
    (record,) = read_retinaface_txt(folder / "label.txt", train=True)
    assert record.bboxes.tolist() == [[100, 100, 170, 180], [300, 200, 330, 240]]
    assert record.kps[..., 2].all(1).tolist() == [True, False]
