"""Backbones, images to maps of strides 4, 8, 16, 32: `BACKBONES`, by the name in `model.backbone.type`.

Read resnet.py, mobilenet.py, masternet.py, then retina_bodies.py.
"""

from collections.abc import Callable

from torch import nn

from mmdet.models.backbones.masternet import MasterNet
from mmdet.models.backbones.mobilenet import MobileNetV1
from mmdet.models.backbones.resnet import ResNetV1e
from mmdet.models.backbones.retina_bodies import MobileNet025, ResNet50

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "ResNetV1e": ResNetV1e,
    "MobileNetV1": MobileNetV1,
    "MasterNet": MasterNet,
    "ResNet50": ResNet50,
    "MobileNet025": MobileNet025,
}
