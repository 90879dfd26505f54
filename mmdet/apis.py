"""The three functions mmdet users know for single images, and `detect`, which also gives keypoints.

model = init_detector("configs/scrfd/scrfd_500m_bnkps.py", "model.pth", device="cpu")
bboxes, = inference_detector(model, "photo.jpg")        # (n, 5) x1 y1 x2 y2 score, original pixels
found, = detect(model, ["photo.jpg"])                   # .bboxes .scores .labels .kps
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from mmdet.checkpoint.foreign import plain_values, read_foreign
from mmdet.checkpoint.keys import load_weights
from mmdet.config import RunConfig, load_config
from mmdet.core.postprocess import Postprocess
from mmdet.core.structures import Detections
from mmdet.datasets.build import build_pipeline
from mmdet.datasets.collate import collate_test
from mmdet.datasets.transforms.base import Compose, make_sample
from mmdet.device import pick_device
from mmdet.errors import ConfigError
from mmdet.evaluation.predict import detect_batch
from mmdet.images import as_bgr, read_image
from mmdet.models.build import build_detector
from mmdet.models.detectors.dense import SCRFD
from mmdet.models.fold import inference_copy

Image: TypeAlias = str | Path | np.ndarray


def init_detector(
    config: str | Path | RunConfig,
    checkpoint: str | Path | None = None,
    device: str | torch.device = "auto",
    cfg_options: Mapping[str, object] | Sequence[str] | None = None,
) -> SCRFD:
    """Build a detector for inference.

    Args:
        config: config file, or one already loaded.
        checkpoint: weights; None leaves the random initialisation.
        device: "auto", "cpu", "cuda:0", "npu", ...
        cfg_options: changes to the config file, {"test_cfg.score_thr": 0.3}.

    Returns:
        The model in eval mode, with `model.cfg` (RunConfig) and `model.CLASSES` (names, tuple).

    Raises:
        ConfigError, CheckpointError, DeviceError: see their messages.
    """
    if isinstance(config, RunConfig):
        if cfg_options:
            raise ConfigError("init_detector: cfg_options need the config file's path, not a loaded config.")
    else:
        config = load_config(config, cfg_options or ())
    model = build_detector(config.model, config.train_cfg, config.test_cfg)
    classes: Sequence[str] = ("face",)
    if checkpoint is not None:
        content = read_foreign(checkpoint)
        load_weights(model, content, name=str(checkpoint))
        classes = (plain_values(content.get("meta")) or {}).get("CLASSES") or classes
    model.CLASSES = tuple([classes] if isinstance(classes, str) else classes)
    model.cfg = config
    return model.to(device if isinstance(device, torch.device) else pick_device(device)).eval()


def inference_detector(
    model: SCRFD, imgs: Image | Sequence[Image]
) -> list[np.ndarray] | list[list[np.ndarray]]:
    """Detect faces; the result has mmdet's shape.

    Args:
        model: from `init_detector`.
        imgs: a path, an (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) gray array of 0..255, or a list of those.

    Returns:
        One image: a list over classes of (n, 5) float32 x1, y1, x2, y2, score in original pixels, best
        first. A list of images: a list of such lists.
    """
    if isinstance(imgs, (str, Path, np.ndarray)):
        return _by_class(detect(model, [imgs])[0], model.bbox_head.num_classes)
    return [_by_class(found, model.bbox_head.num_classes) for found in detect(model, imgs)]


def detect(model: SCRFD, imgs: Sequence[Image]) -> list[Detections]:
    """Detect faces in several images, one forward pass each; keypoints where the model has them.

    Raises:
        DataError: a file cannot be read, or an array is no image.
        ConfigError: the model was not made by `init_detector`, is in train mode, or its config has no test
            pipeline.
    """
    pipeline, postprocess = _test_parts(model)
    network, device = _network(model), next(model.parameters()).device
    found = []
    for number, image in enumerate(imgs):
        sample = pipeline(make_sample(*_load(image, number)), np.random.RandomState(0))
        found += detect_batch(network, collate_test([sample]), postprocess, device)
    return found


def _test_parts(model: SCRFD) -> tuple[Compose, Postprocess]:
    """Return the pipeline and the post-processing of model.cfg, built at the first call."""
    config = getattr(model, "cfg", None)
    if model.training and config is not None:
        raise ConfigError("the model is in train mode; call model.eval() before it detects.")
    made_for, parts = getattr(model, "_test_parts", (None, None))
    if parts is not None and made_for is config:
        return parts
    if config is None:
        raise ConfigError("the model has no cfg; make it with mmdet.apis.init_detector.")
    test = config.data.test or config.data.val
    if not test or "pipeline" not in test:
        raise ConfigError(f"config {config.filename}: data.test.pipeline is missing; inference needs it.")
    pipeline = build_pipeline(test["pipeline"], "data.test.pipeline")
    model._test_parts = config, (pipeline, Postprocess.from_test_cfg(config.test_cfg))
    return model._test_parts[1]


def _network(model: SCRFD) -> torch.nn.Module:
    """Return the folded copy of a model in eval mode, made anew when its weights have changed."""
    if model.training:
        return model
    tensors = model.state_dict(keep_vars=True).values()
    state = [(t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors]
    made_for, (network,) = getattr(model, "_folded", (None, (None,)))
    if made_for != state:
        model._folded = None, (None,)  # not to be copied with the model
        network = inference_copy(model)
        model._folded = state, (network,)  # a tuple, so that torch does not count it as a part of the model
    return network


def _load(image: Image, number: int) -> tuple[np.ndarray, str]:
    """Return (H, W, 3) BGR pixels and a name for messages."""
    if isinstance(image, (str, Path)):
        return read_image(image), str(image)
    return as_bgr(image, f"image {number}"), f"image {number}"


def _by_class(found: Detections, num_classes: int) -> list[np.ndarray]:
    rows = torch.cat([found.bboxes, found.scores[:, None]], dim=1).float().cpu().numpy()
    labels = found.labels.cpu().numpy()
    return [rows[labels == label] for label in range(num_classes)]
