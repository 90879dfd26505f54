"""Coders: codes and boxes typed by hand, and back."""

import math

import pytest
import torch

from mmdet.core.anchors import AnchorGenerator, Anchors
from mmdet.core.coders import CODERS, DistanceCoder, PriorCoder, describe_coder
from mmdet.errors import ConfigError

# Two anchors of stride 8: centre (8, 16) of 16 x 32 px, centre (0, 0) of 8 x 8 px.
ANCHORS = Anchors(
    center=torch.tensor([[8.0, 16], [0, 0]]),
    stride=torch.tensor([[8.0], [8.0]]),
    wh=torch.tensor([[16.0, 32], [8, 8]]),
)
BBOXES = torch.tensor([[0.0, 12, 24, 20], [-8, -8, 8, 8]])
POINTS = torch.tensor([[16.0, 16, 8, 0], [0, 4, -2, 0]])
DISTANCES = torch.tensor([[1.0, 0.5, 2, 0.5], [1, 1, 1, 1]])
OFFSETS = torch.tensor([[1.0, 0, 0, -2], [0, 0.5, -0.25, 0]])


def test_distances_by_hand():
    coder = DistanceCoder()
    assert torch.equal(coder.encode_bboxes(BBOXES, ANCHORS), DISTANCES)
    assert torch.equal(coder.decode_bboxes(DISTANCES, ANCHORS), BBOXES)
    assert torch.equal(coder.encode_kps(POINTS, ANCHORS), OFFSETS)
    assert torch.equal(coder.decode_kps(OFFSETS, ANCHORS), POINTS)


def test_distances_in_strides_and_in_planes():
    coder = DistanceCoder()
    in_strides = Anchors((ANCHORS.center / 8).t(), stride=None, wh=None)
    assert torch.equal(coder.decode_bboxes(DISTANCES.t(), in_strides, dim=0), BBOXES.t() / 8)
    assert torch.equal(coder.encode_kps(POINTS.t() / 8, in_strides, dim=0), OFFSETS.t())
    clamped = coder.encode_bboxes(BBOXES / 8, Anchors(ANCHORS.center / 8, None, None), max_distance=1.6)
    assert clamped[0].tolist() == [1.0, 0.5, 1.5, 0.5]


def test_priors_by_hand():
    # Box 0: centre (12, 16), 24 x 8 px; box 1: centre (0, 0), 16 x 16 px. Offsets / 0.1, logarithms / 0.2.
    codes = torch.tensor(
        [[2.5, 0, math.log(1.5) / 0.2, math.log(0.25) / 0.2], [0, 0, math.log(2) / 0.2, math.log(2) / 0.2]]
    )
    coder = PriorCoder()
    torch.testing.assert_close(coder.encode_bboxes(BBOXES, ANCHORS), codes)
    torch.testing.assert_close(coder.decode_bboxes(codes, ANCHORS), BBOXES)
    points = torch.tensor([[5.0, 0, 0, -5], [0, 5, -2.5, 0]])
    torch.testing.assert_close(coder.encode_kps(POINTS, ANCHORS), points)
    torch.testing.assert_close(coder.decode_kps(points, ANCHORS), POINTS)


def test_variances_scale_the_codes():
    wide, usual = PriorCoder(variances=(0.2, 0.4)), PriorCoder()
    torch.testing.assert_close(2 * wide.encode_bboxes(BBOXES, ANCHORS), usual.encode_bboxes(BBOXES, ANCHORS))
    with pytest.raises(ConfigError, match=r"variances=\(0, 1\)"):
        PriorCoder(variances=(0, 1))


@pytest.mark.parametrize("coder", [DistanceCoder(), PriorCoder()])
def test_edges(coder):
    none = Anchors(torch.zeros(0, 2), torch.zeros(0, 1), torch.zeros(0, 2))
    assert coder.decode_bboxes(torch.zeros(0, 4), none).shape == (0, 4)
    assert coder.decode_kps(torch.zeros(0, 10), none).shape == (0, 10)
    assert coder.decode_kps(torch.zeros(2, 0), ANCHORS).shape == (2, 0)
    flat = torch.tensor([[8.0, 16, 8, 16], [4, 0, 4, 9]])  # zero area
    assert coder.encode_bboxes(flat, ANCHORS).isfinite().all()
    # A batch of images against the same anchors.
    many = BBOXES.expand(3, 2, 4)
    torch.testing.assert_close(coder.decode_bboxes(coder.encode_bboxes(many, ANCHORS), ANCHORS), many)


def test_anchors_of_a_grid():
    grid = AnchorGenerator(strides=[8, 16], ratios=[1.0], scales=[1, 2]).grid([(1, 2), (1, 1)])
    taken = grid.anchors.take(torch.tensor([1, 3, 4]))
    assert taken.center.tolist() == [[0, 0], [8, 0], [0, 0]]
    assert taken.stride.tolist() == [[8], [8], [16]]
    assert taken.wh.tolist() == [[16, 16], [16, 16], [16, 16]]


def test_a_description_names_the_coder():
    assert describe_coder(DistanceCoder()) == {"type": "DistanceCoder"}
    assert describe_coder(PriorCoder()) == {"type": "PriorCoder", "variances": (0.1, 0.2)}
    assert all(describe_coder(make())["type"] == name for name, make in CODERS.items())
