"""One small class per mmdet transform, with its names, arguments and order of random draws.

Read base, then crop, geometric, affine, mosaic, color, formatting, test_time, retina, albumentations. Own
transforms are added by a module named in `custom_imports` that says `TRANSFORMS["Mine"] = Mine`.
"""

from mmdet.datasets.transforms.affine import RandomAffine
from mmdet.datasets.transforms.albumentations import (
    Albumentations,
    HueSaturationValue,
    RandomBrightnessContrast,
    RandomGamma,
)
from mmdet.datasets.transforms.base import Compose, Transform, make_sample
from mmdet.datasets.transforms.color import Normalize, PhotoMetricDistortion
from mmdet.datasets.transforms.crop import RandomSquareCrop
from mmdet.datasets.transforms.formatting import (
    Collect,
    DefaultFormatBundle,
    ImageToTensor,
    LoadAnnotations,
    LoadImageFromFile,
)
from mmdet.datasets.transforms.geometric import Pad, RandomFlip, Resize
from mmdet.datasets.transforms.mosaic import Mosaic
from mmdet.datasets.transforms.retina import ClipLabels, PadToSquare, RandomRotate90, RetinaFaceCrop
from mmdet.datasets.transforms.test_time import MultiScaleFlipAug

TRANSFORMS: dict[str, type[Transform]] = {
    "Albumentations": Albumentations,
    "ClipLabels": ClipLabels,
    "Collect": Collect,
    "DefaultFormatBundle": DefaultFormatBundle,
    "HueSaturationValue": HueSaturationValue,
    "ImageToTensor": ImageToTensor,
    "LoadAnnotations": LoadAnnotations,
    "LoadImageFromFile": LoadImageFromFile,
    "Mosaic": Mosaic,
    "MultiScaleFlipAug": MultiScaleFlipAug,
    "Normalize": Normalize,
    "Pad": Pad,
    "PadToSquare": PadToSquare,
    "PhotoMetricDistortion": PhotoMetricDistortion,
    "RandomAffine": RandomAffine,
    "RandomBrightnessContrast": RandomBrightnessContrast,
    "RandomFlip": RandomFlip,
    "RandomGamma": RandomGamma,
    "RandomRotate90": RandomRotate90,
    "RandomSquareCrop": RandomSquareCrop,
    "Resize": Resize,
    "RetinaFaceCrop": RetinaFaceCrop,
}

__all__ = ["TRANSFORMS", "Compose", "Transform", "make_sample"]
