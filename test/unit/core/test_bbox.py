import pytest
import torch

from mmdet.core.bbox import (
    bbox2distance,
    bbox_overlaps,
    distance2bbox,
    distance2kps,
    kps2distance,
    pairwise_overlaps,
)

CENTER = torch.tensor([[10.0, 20.0]])


def test_distance2bbox_and_back():
    bboxes = distance2bbox(CENTER, torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert bboxes.tolist() == [[9, 18, 13, 24]]
    assert bbox2distance(CENTER, bboxes).tolist() == [[1, 2, 3, 4]]


def test_distance2bbox_keeps_inverted_boxes():
    assert distance2bbox(CENTER, torch.tensor([[-5.0, 0, -5, 0]])).tolist() == [[15, 20, 5, 20]]


def test_distance2bbox_clamps_x_to_width_and_y_to_height():
    assert distance2bbox(CENTER, torch.full((1, 4), 50.0), (30, 40)).tolist() == [[0, 0, 40, 30]]


def test_bbox2distance_stays_inside_the_bins():
    ltrb = bbox2distance(CENTER, torch.tensor([[0.0, 25.0, 12.0, 60.0]]), max_dis=8)
    assert ltrb[0].tolist() == pytest.approx([7.9, 0, 2, 7.9])


def test_kps_codec():
    offsets = torch.tensor([[1.0, -1.0, 0.0, 100.0]])
    assert distance2kps(CENTER, offsets).tolist() == [[11, 19, 10, 120]]
    assert distance2kps(CENTER, offsets, (30, 40)).tolist() == [[11, 19, 10, 30]]
    assert kps2distance(CENTER, torch.tensor([[11.0, 19.0, 10.0, 120.0]])).tolist() == [[1, -1, 0, 100]]


@pytest.mark.parametrize(
    "b,iou,iof,giou",
    [
        ([0, 0, 10, 10], 1, 1, 1),
        ([5, 0, 15, 10], 1 / 3, 0.5, 1 / 3),
        ([0, 0, 10, 5], 0.5, 0.5, 0.5),
        ([20, 0, 30, 10], 0, 0, -1 / 3),  # a gap of 10
        ([3, 3, 3, 3], 0, 0, 0),  # zero size
        ([10, 10, 0, 0], 0, 0, -1.0),  # inverted: union 200, hull limited to 100
    ],
)
def test_overlaps(b, iou, iof, giou):
    a, b = torch.tensor([0.0, 0, 10, 10]), torch.tensor(b, dtype=torch.float32)
    assert bbox_overlaps(a, b).item() == pytest.approx(iou)
    assert bbox_overlaps(a, b, "iof").item() == pytest.approx(iof)
    if b[2] >= b[0]:
        assert bbox_overlaps(a, b, "giou").item() == pytest.approx(giou)


def test_unknown_mode():
    with pytest.raises(ValueError, match="'dice' is not one of"):
        bbox_overlaps(torch.zeros(4), torch.zeros(4), "dice")


def test_pairwise_equals_one_by_one():
    a, b = torch.rand(3, 4).cumsum(-1), torch.rand(5, 4).cumsum(-1)
    expected = torch.stack([torch.stack([bbox_overlaps(x, y) for y in b]) for x in a])
    assert torch.equal(pairwise_overlaps(a, b), expected)
    assert pairwise_overlaps(a, b[:0]).shape == (3, 0)
