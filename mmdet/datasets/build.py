"""From config dicts to data sets, with the names of mmdet; unknown types and arguments are ConfigErrors."""

from collections.abc import Sequence

from mmdet.config.table import build_from
from mmdet.config.values import shorten
from mmdet.datasets.faces import FacesDataset
from mmdet.datasets.transforms import TRANSFORMS, Compose, Transform
from mmdet.datasets.transforms.color import PhotoMetricDistortion
from mmdet.datasets.transforms.crop import RandomSquareCrop
from mmdet.datasets.transforms.formatting import LoadAnnotations, LoadImageFromFile
from mmdet.errors import ConfigError

DATASETS = {"FacesDataset": FacesDataset, "RetinaFaceDataset": FacesDataset}


def build_dataset(
    cfg: dict, *, test_mode: bool = False, seed: int = 0, path: str = "data.train"
) -> FacesDataset:
    """Build the data set of a config dict; the dict is not changed.

    Args:
        cfg: {"type": "RetinaFaceDataset", "ann_file": ..., "img_prefix": ..., "pipeline": [...], ...}.
        test_mode: True for validation and test.
        seed: of the augmentation.
        path: where the dict stands in the config, for messages.

    Raises:
        ConfigError: unknown or missing type or argument.
        DataError: missing files, bad labels.
    """
    if "pipeline" not in cfg:
        raise ConfigError(f"{path}.pipeline is missing")
    names = [
        name for name in ("pipeline", "closing_pipeline") if name == "pipeline" or cfg.get(name) is not None
    ]
    pipelines = {name: build_pipeline(cfg[name], f"{path}.{name}") for name in names}
    return build_from(DATASETS, {**cfg, **pipelines, "test_mode": test_mode, "seed": seed}, path)


def build_pipeline(cfgs: Sequence[dict], path: str = "pipeline") -> Compose:
    """Build the transforms of a config list, MultiScaleFlipAug's inner list included.

    Raises:
        ConfigError: unknown or missing type or argument, or an impossible combination.
    """
    if not isinstance(cfgs, list | tuple) or not cfgs:
        raise ConfigError(f"{path} = {shorten(cfgs)} must be a list of transforms")
    steps = [_build_transform(cfg, f"{path}[{i}]") for i, cfg in enumerate(cfgs)]
    is_float = any(isinstance(step, LoadImageFromFile) and step.to_float32 for step in steps)
    if not is_float and any(isinstance(step, PhotoMetricDistortion) for step in steps):
        raise ConfigError(f"{path}: PhotoMetricDistortion needs LoadImageFromFile(to_float32=True)")
    return Compose(_float_after_crop(steps))


def _build_transform(cfg: dict, path: str) -> Transform:
    if isinstance(cfg, dict) and "transforms" in cfg:
        inner = [
            _build_transform(step, f"{path}.transforms[{i}]") for i, step in enumerate(cfg["transforms"])
        ]
        cfg = {**cfg, "transforms": inner}
    return build_from(TRANSFORMS, cfg, path)


def _float_after_crop(steps: list[Transform]) -> list[Transform]:
    """Move the conversion to float32 behind a crop right after it: same numbers, a fraction of the memory."""
    for place, step in enumerate(steps):
        if isinstance(step, RandomSquareCrop):
            before = steps[:place]
            if all(isinstance(s, LoadImageFromFile | LoadAnnotations) for s in before):
                loads = [s for s in before if isinstance(s, LoadImageFromFile)]
                others = [s for s in before if not isinstance(s, LoadImageFromFile)]
                return [*others, step, *loads, *steps[place + 1 :]]
    return steps
