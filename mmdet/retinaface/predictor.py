"""Predictor: RetinaFace on one RGB image, with the sizes, roundings and result of the original project.

    model = get_model("resnet50_2020-07-20", max_size=2048, device="cpu", weights="R50.pth")
    model.eval()
    annotations = model.predict_jsons(image_rgb)

The longest side of the image becomes max_size, larger or smaller. Boxes are not cut at the border; a face
that begins at or beyond the last column or row is dropped.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from mmdet.config import RunConfig, load_config
from mmdet.core.nms import nms
from mmdet.core.structures import Outputs
from mmdet.errors import ConfigError, DataError, unknown_name

# The original's names of released models -> our config, beside this package or in a checkout.
MODELS = {
    "resnet50_2020-07-20": "resnet50",
    "resnet50": "resnet50",
    "mobilenet0.25": "mobilenet0.25",
}
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "retinaface"
SCORE_THR, IOU_THR = 0.7, 0.4
ROUND_TO = 2  # digits of what predict_jsons returns


class Found(NamedTuple):
    """Faces of one image, best score first: (n, 4) xyxy, (n,), (n, K, 2), in network pixels."""

    bboxes: np.ndarray
    scores: np.ndarray
    kps: np.ndarray


class Pixels(NamedTuple):
    """How an image becomes network input: (pixel - mean) / std, in RGB unless `is_bgr`."""

    mean: np.ndarray
    std: np.ndarray
    is_bgr: bool


def no_face() -> dict[str, Any]:
    """Return the annotation that stands for an image without faces."""
    return {"bbox": [], "score": -1, "landmarks": []}


class Predictor:
    """A RetinaFace and how it sees images.

    Args:
        model: made by `init_detector`, with keypoints.
        max_size: longest side of the network's input, pixels.
        half: run in half precision.
    """

    def __init__(self, model: Any, max_size: int = 960, half: bool = False) -> None:
        if max_size < 1:
            raise ConfigError(f"max_size={max_size}: expected at least 1")
        self.model, self.max_size = model.half() if half else model, max_size
        self.pixels = _read_pixels(model.cfg)

    def eval(self) -> "Predictor":
        """Switch to evaluation; it is the default. Return itself."""
        self.model.eval()
        return self

    def predict_jsons(
        self, image: np.ndarray, confidence_threshold: float = SCORE_THR, nms_threshold: float = IOU_THR
    ) -> list[dict[str, Any]]:
        """Return the faces of an image.

        Args:
            image: (H, W, 3) uint8 RGB.
            confidence_threshold: scores above it are faces.
            nms_threshold: a face whose IoU with a better one is above it is dropped.

        Returns:
            One {"bbox": [x1, y1, x2, y2], "score": s, "landmarks": [[x, y], ...]} per face, pixels of the
            image, two digits; [{"bbox": [], "score": -1, "landmarks": []}] where there is none.

        Raises:
            DataError: no such image.
        """
        height, width = _check_image(image)
        resized = fit(image, self.max_size)
        (outputs,) = self.run([resized])
        found = self.decode(outputs, confidence_threshold, nms_threshold)
        if not len(found.bboxes):
            return [no_face()]
        scale = height / resized.shape[0]
        annotations = []
        for bbox, score, kps in zip(found.bboxes * scale, found.scores, found.kps * scale, strict=True):
            if bbox[0] < width - 1 and bbox[1] < height - 1:
                annotations.append(
                    {
                        "bbox": _rounded(bbox),
                        "score": round(float(score), ROUND_TO),
                        "landmarks": [_rounded(point) for point in kps],
                    }
                )
        return annotations

    @torch.inference_mode()
    def run(self, images: Sequence[np.ndarray]) -> list[Outputs]:
        """Return the network's outputs, fp32, for RGB images of one size, image by image."""
        parameter = next(self.model.parameters())
        blob = np.stack([self._normalize(image) for image in images]).transpose(0, 3, 1, 2)
        outputs = self.model(
            torch.from_numpy(blob).contiguous().to(parameter.device, parameter.dtype)
        ).float()
        return [_take(outputs, index) for index in range(len(images))]

    def decode(self, outputs: Outputs, score_thr: float, iou_thr: float) -> Found:
        """Return the faces of one image after NMS, in network pixels, not cut at the border."""
        score = self.model.scores(outputs)[0, :, 0].cpu()
        row = (score > score_thr).nonzero()[:, 0]
        row = row[score[row].argsort(descending=True, stable=True)]
        anchors = self.model.anchor_generator.grid(outputs.level_sizes_hw).anchors.take(row)
        bboxes = self.model.coder.decode_bboxes(outputs.bbox_pred[0].cpu()[row], anchors)
        keep = nms(bboxes, score[row], iou_thr)
        anchors = anchors.take(keep)
        kps_pred = outputs.kps_pred
        assert kps_pred is not None
        kps = self.model.coder.decode_kps(kps_pred[0].cpu()[row[keep]], anchors)
        points = kps.unflatten(-1, (-1, 2)).numpy()
        return Found(bboxes[keep].numpy(), score[row[keep]].numpy(), points)

    def _normalize(self, image: np.ndarray) -> np.ndarray:
        pixels = image[..., ::-1] if self.pixels.is_bgr else image
        return (pixels.astype(np.float32) - self.pixels.mean) * np.reciprocal(self.pixels.std)


def get_model(
    model_name: str,
    max_size: int,
    device: str = "cpu",
    *,
    weights: str | Path,
    config: str | Path | None = None,
) -> Predictor:
    """Return a predictor of the original project's name, with weights from a local file.

    Args:
        model_name: resnet50_2020-07-20, resnet50 or mobilenet0.25.
        max_size: longest side of the network's input, pixels.
        device: "auto", "cpu", "cuda:0", "npu", ...
        weights: a released file or a checkpoint of ours. The original downloads it; this does not.
        config: a config file instead of the one of that name.

    Raises:
        ConfigError: an unknown name. CheckpointError: the weights are of another body.
    """
    from mmdet.apis import init_detector

    if config is None:
        if model_name not in MODELS:
            raise ConfigError(unknown_name("get_model: model_name", model_name, MODELS))
        config = CONFIGS / f"{MODELS[model_name]}.py"
    return Predictor(init_detector(load_config(config), weights, device), max_size)


def fit(image: np.ndarray, max_size: int) -> np.ndarray:
    """Return the image with its longest side at max_size, bilinear.

    Raises:
        DataError: the shorter side would be less than a pixel.
    """
    height, width = image.shape[:2]
    scale = max_size / max(height, width)
    new_height, new_width = (round(side * scale) for side in (height, width))  # halves go to the even number
    if not min(new_height, new_width):
        raise DataError(f"an image of {width}x{height} px has no pixels left at max_size {max_size}")
    if scale == 1:
        return image
    return cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)


def _check_image(image: np.ndarray) -> tuple[int, int]:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise DataError(f"image of shape {image.shape}, {image.dtype}: expected (H, W, 3) uint8 RGB")
    return image.shape[0], image.shape[1]


def _take(outputs: Outputs, index: int) -> Outputs:
    """Return the outputs of one image, as a batch of 1."""
    part = slice(index, index + 1)
    kps = None if outputs.kps_pred is None else outputs.kps_pred[part]
    return Outputs(outputs.cls_logits[part], outputs.bbox_pred[part], kps, None, outputs.level_sizes_hw)


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), ROUND_TO) for value in values]


def _read_pixels(cfg: RunConfig) -> Pixels:
    """Return what the Normalize step of a config's test pipeline says."""
    steps: list[Mapping[str, Any]] = list((cfg.data.test or cfg.data.val or {}).get("pipeline", ()))
    for step in steps:
        steps += step.get("transforms", ())
        if step.get("type") == "Normalize":
            mean, std = (np.array(step[key], np.float32) for key in ("mean", "std"))
            return Pixels(mean, std, not step.get("to_rgb", True))
    raise ConfigError(f"config {cfg.filename}: the test pipeline has no Normalize")
