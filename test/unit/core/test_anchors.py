import pytest
import torch

from mmdet.core.anchors import AnchorGenerator
from mmdet.errors import ConfigError


def test_grid_of_two_levels():
    generator = AnchorGenerator(strides=[8, 16], ratios=[1.0], scales=[1, 2], base_sizes=[16, 64])
    grid = generator.grid([(1, 2), (1, 1)])
    assert grid.bboxes.tolist() == [
        [-8, -8, 8, 8],
        [-16, -16, 16, 16],
        [0, -8, 16, 8],
        [-8, -16, 24, 16],
        [-32, -32, 32, 32],
        [-64, -64, 64, 64],
    ]
    assert grid.centers.tolist() == [[0, 0], [0, 0], [8, 0], [8, 0], [0, 0], [0, 0]]
    assert grid.strides.tolist() == [8, 8, 8, 8, 16, 16]
    assert grid.level_sizes == (4, 2) and grid.num_anchors == 6
    assert [level.offset for level in grid.levels] == [0, 4]
    assert grid.levels[1].anchor_whs == ((64, 64), (128, 128))
    assert generator.num_anchors_per_cell == grid.num_anchors_per_cell == 2


def test_ratio_is_height_over_width_and_scales_vary_fastest():
    grid = AnchorGenerator(strides=[16], ratios=[1.0, 4.0], scales=[1, 2]).grid([(1, 1)])
    assert grid.levels[0].anchor_whs == ((16, 16), (32, 32), (8, 32), (16, 64))


def test_grid_is_made_once_and_usable_for_training_after_inference():
    generator = AnchorGenerator(strides=[8], ratios=[1.0], scales=[5])
    with torch.inference_mode():
        grid = generator.grid([(3, 3)])
    assert generator.grid([(3, 3)]) is grid
    assert not grid.bboxes.is_inference()


def test_bad_arguments():
    with pytest.raises(ConfigError, match="base_sizes"):
        AnchorGenerator(strides=[8, 16], ratios=[1.0], scales=[1], base_sizes=[8])
    with pytest.raises(ConfigError, match="at least one"):
        AnchorGenerator(strides=[8], ratios=[], scales=[1])
    with pytest.raises(ValueError, match="2 feature maps"):
        AnchorGenerator(strides=[8], ratios=[1.0], scales=[1]).grid([(1, 1), (1, 1)])
