import torch
from torch import nn

from mmdet.models.flops import count_complexity, count_layer


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()
        )
        self.neck = nn.AvgPool2d(2)
        self.bbox_head = nn.Conv2d(4, 2, 1, groups=2)

    def raw(self, images):
        return self.bbox_head(self.neck(self.backbone(images)))


def test_counts_by_hand():
    counted = count_complexity(Tiny(), 8, 16)
    # conv: 4 x 4 x 8 outputs x 27; BN 2 x 128; ReLU 128; pool 128; head 2 x 2 x 4 outputs x 2, + 16 bias
    assert counted.conv_macs == {"backbone": 128 * 27, "neck": 0, "bbox_head": 16 * 2}
    assert counted.flops == {"backbone": 128 * 27 + 256 + 128, "neck": 128, "bbox_head": 16 * 2 + 16}
    assert counted.params == {"backbone": 108 + 8, "neck": 0, "bbox_head": 4 + 2}


def test_the_model_is_left_alone():
    model = Tiny()
    count_complexity(model, 8, 8)
    assert model.training and model.bbox_head.weight.device.type == "cpu"
    assert not model.bbox_head._forward_hooks


def test_norm_without_affine_costs_one_per_element():
    x = torch.zeros(1, 4, 2, 2)
    assert count_layer(nn.BatchNorm2d(4, affine=False), x, x) == 16
    assert count_layer(nn.GroupNorm(2, 4), x, x) == 32
    assert count_layer(nn.Identity(), x, x) == 0
