"""The JSON beside an ONNX file, and what a file without one is taken for."""

import json
from dataclasses import replace

import pytest

from mmdet.deploy.runtime.description import Description, guess

FACE = Description(
    strides=(8, 16, 32), num_anchors=2, num_kps=5, anchors=(((16.0, 16.0), (32.0, 32.0)),) * 3, config="scrfd"
)


def test_names_are_grouped_by_kind_then_stride():
    assert FACE.output_names() == [
        "score_8", "score_16", "score_32", "bbox_8", "bbox_16", "bbox_32", "kps_8", "kps_16", "kps_32",
    ]  # fmt: skip
    assert Description((8, 16), 1, 0).output_names() == ["score_8", "score_16", "bbox_8", "bbox_16"]


def test_names_after_nms():
    nms = {"iou_threshold": 0.45, "score_threshold": 0.02}
    assert Description((8,), 1, 0, nms=nms).output_names() == ["bboxes", "scores", "labels", "image_index"]
    assert Description((8,), 1, 5, nms=nms).output_names()[-1] == "kps"


def test_round_trip():
    assert Description.from_json(FACE.to_json()) == FACE
    content = json.loads(FACE.to_json())
    assert (
        content["strides"] == [8, 16, 32]
        and content["mean"] == [127.5] * 3
        and content["classes"] == ["face"]
    )
    assert content["outputs"][0] == "score_8" and "x1 = cx - l * stride" in content["decoding"]


def test_a_file_without_a_coder_holds_distances():
    content = json.loads(FACE.to_json())
    assert content.pop("coder") == {"type": "DistanceCoder"}
    assert Description.from_json(json.dumps(content)) == FACE


def test_a_coder_with_numbers():
    priors = replace(FACE, coder={"type": "PriorCoder", "variances": (0.1, 0.3)})
    assert Description.from_json(priors.to_json()) == priors
    assert "w * exp(dw * variances[1])" in json.loads(priors.to_json())["decoding"]
    with pytest.raises(ValueError, match="coder.type = 'Polar' is unknown"):
        Description.from_json(FACE.to_json().replace("DistanceCoder", "Polar"))


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"format": 2}', '{"format": 1}'])
def test_what_is_no_description(text):
    with pytest.raises(ValueError):
        Description.from_json(text)


@pytest.mark.parametrize(
    ("num", "strides", "num_anchors", "num_kps"),
    [
        (6, (8, 16, 32), 2, 0),
        (9, (8, 16, 32), 2, 5),
        (10, (8, 16, 32, 64, 128), 1, 0),
        (15, (8, 16, 32, 64, 128), 1, 5),
    ],
)
def test_published_files_are_known_by_their_outputs(num, strides, num_anchors, num_kps):
    found = guess(num, ["A"] * num)
    assert (found.strides, found.num_anchors, found.num_kps) == (strides, num_anchors, num_kps)


def test_last_dimensions_must_fit():
    assert guess(6, [1, 1, 1, 4, 4, 4]).classes == ("face",)
    assert guess(6, [2, 2, 2, 4, 4, 4]).classes == ("class_0", "class_1")
    assert guess(6, [1, 1, 1, 10, 10, 10]) is None
    assert guess(9, [1, 1, 1, 4, 4, 4, 8, 8, 8]) is None
    assert guess(7, [1] * 7) is None and guess(1, [1000]) is None and guess(0, []) is None
