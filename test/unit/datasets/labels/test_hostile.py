"""Label files that the campaign made: numbers that no float holds, keys of another type, endless classes."""

import json

import pytest

from mmdet.datasets.labels import read_as
from mmdet.errors import DataError

HUGE = 10**400


def coco(**changes):
    one = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3], **changes}
    images = [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}]
    return {"images": images, "categories": [{"id": 1, "name": "face"}], "annotations": [one]}


@pytest.mark.parametrize(
    ("label_format", "content"),
    [
        ("coco", coco(bbox=[HUGE, 1, 3, 3])),
        ("coco", coco(category_id=[1])),
        ("coco", coco(image_id={"a": 1})),
        ("ternaus-json", [{"file_name": "a.jpg", "annotations": [{"bbox": [HUGE, 2, 30, 40]}]}]),
    ],
)
def test_json_labels(tmp_path, label_format, content):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"a\.json: .*(annotation|number)"):
        read_as(path, label_format, train=False)


def test_a_number_that_float32_does_not_hold(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a.jpg\n1\n1 1 1e308 50 0 0 0 0 0 0\n")
    with pytest.raises(DataError, match=r"a\.txt.*: face 0 of a\.jpg: box .* is inverted or not finite"):
        read_as(path, "wider-txt", train=False)


def test_images_of_coco_that_share_an_id(tmp_path):
    content = coco()
    content["images"].append({**content["images"][0], "file_name": "b.jpg"})
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"a\.json: images: 1 have the id of another one"):
        read_as(tmp_path / "a.json", "coco", train=False)


@pytest.mark.parametrize("index", ["1e300", "999999999", "10000"])
def test_a_class_index_of_yolo_does_not_make_a_list_of_names(tmp_path, index):
    (tmp_path / "a.txt").write_text(f"{index} .5 .5 .1 .1\n")
    (tmp_path / "a.ppm").write_bytes(b"P6 2 2 255\n" + bytes(12))
    (tmp_path / "a.ppm").rename(tmp_path / "a.bmp")
    with pytest.raises(DataError, match=r"a\.txt:1: class .*; at most 10000 classes"):
        read_as(tmp_path, "yolo", train=False)


def test_class_names_of_yolo_do_not_grow(tmp_path):
    (tmp_path / "a.txt").write_text("0 .5 .5 .1 .1\n")
    (tmp_path / "a.bmp").write_bytes(b"P6 2 2 255\n" + bytes(12))
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    (tmp_path / "data.yaml").write_text("\n".join([*lines, "names: [*a9]"]))
    with pytest.raises(DataError, match=r"data\.yaml: not YAML \(more than 200000 values"):
        read_as(tmp_path, "yolo", train=False)


@pytest.mark.parametrize(
    ("label_format", "text", "said"),
    [
        ("retinaface-txt", "# a.jpg\n1e38 1 3e38 4\n", "a.jpg: a box or point is not finite or beyond"),
        ("retinaface-txt", "# a.jpg\n1 1 3 4\n# b.jpg\n# a.jpg\n", r":4: a\.jpg is listed more than once"),
        (
            "csv",
            "image,x1,y1,x2,y2,width,height\na.jpg,1,1,3,4,9,9\na.jpg,2,2,4,5,9,8\n",
            ":3: a.jpg has another",
        ),
    ],
)
def test_lines_that_do_not_fit_together(tmp_path, label_format, text, said):
    (tmp_path / "labels").write_text(text)
    with pytest.raises(DataError, match=said):
        read_as(tmp_path / "labels", label_format, train=False)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 .5 .5 -.1 .2", r"a\.txt:1: box \[0.5, 0.5, -0.1, 0.2\] has a negative size"),
        ("0 -50 .5 .1 .2", r"a\.txt:1: box .* is in pixels"),
    ],
)
def test_a_box_of_yolo_is_named_by_its_line(tmp_path, line, said):
    (tmp_path / "a.txt").write_text(line + "\n")
    (tmp_path / "a.bmp").write_bytes(b"P6 2 2 255\n" + bytes(12))
    with pytest.raises(DataError, match=said):
        read_as(tmp_path, "yolo", train=False)


def test_class_names_of_yolo_may_hold_blanks(tmp_path):
    (tmp_path / "a.txt").write_text("1 .5 .5 .1 .1\n")
    (tmp_path / "a.bmp").write_bytes(b"P6 2 2 255\n" + bytes(12))
    (tmp_path / "classes.txt").write_text("human face\ncat face\n\n")
    assert read_as(tmp_path, "yolo", train=False).classes == ("human face", "cat face")
    (tmp_path / "classes.txt").write_text("human face\n\ncat face\n")
    with pytest.raises(DataError, match=r"classes\.txt:2: expected a class name"):
        read_as(tmp_path, "yolo", train=False)
