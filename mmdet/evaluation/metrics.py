"""METRICS: how good predictions are, by the names of `evaluation.metric` in a config. No torch here.

A metric of one's own is added by a module named in `custom_imports`: `METRICS["mine"] = Mine`, a `Metric`.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mmdet.errors import ConfigError, unknown_name
from mmdet.evaluation.options import MetricOptions
from mmdet.evaluation.retinaface_map import RetinaFaceMetric
from mmdet.evaluation.widerface.ap import WiderResult, evaluate_widerface
from mmdet.evaluation.widerface.files import SETTINGS, WiderImage, read_wider_gt, require_images, split_name
from mmdet.evaluation.widerface.from_labels import Heights, make_wider_gt
from mmdet.files import write_text

if TYPE_CHECKING:
    from mmdet.datasets.faces import FacesDataset
    from mmdet.datasets.labels import LabelFile

# image name as the label file writes it -> (n, 6) float32 x, y, w, h, score, class; best score first, pixels
# of the file; (0, 6) for an image without detections
PredictionDict = Mapping[str, np.ndarray]

logger = logging.getLogger(__name__)


class Metric(Protocol):
    """What a class of METRICS has.

    Attributes:
        names: the figures that the best checkpoint may be chosen by.
    """

    names: tuple[str, ...]

    @classmethod
    def prepare(cls, dataset: "FacesDataset", cfg: MetricOptions) -> "Metric":
        """Read and check the ground truth, before any training or prediction.

        Raises:
            DataError: it is missing or does not fit the data set.
        """
        ...

    def compute(self, predictions: PredictionDict) -> dict[str, float]:
        """Return the figures, those of `names` among them."""
        ...

    def report(self, folder: Path, title: str) -> str:
        """Write files about the predictions of the last `compute`; return the lines for the screen."""
        ...


class WiderFaceMetric:
    """Easy, medium and hard AP of the WIDER FACE protocol, on detections of class 0."""

    names: tuple[str, ...] = tuple(f"AP_{setting}" for setting in SETTINGS)

    def __init__(self, gt: Sequence[WiderImage]) -> None:
        self.gt = gt
        self.result: WiderResult | None = None

    @classmethod
    def prepare(cls, dataset: "FacesDataset", cfg: MetricOptions) -> "WiderFaceMetric":
        """Read the .mat files of cfg.gt_dir or gt/ beside the images; without gt/, take the labels."""
        gt_dir = Path(cfg.gt_dir or default_gt_dir(dataset))
        if cfg.gt_dir or gt_dir.is_dir():
            gt = read_wider_gt(gt_dir)
            require_images(gt, dataset.labels.names, dataset.ann_file)
            return cls(gt)
        logger.warning(
            "no ground truth in %s: easy, medium and hard are the faces of %s that are at least 50, 30 and "
            "10 px high, as tools/make_wider_gt.py would write them",
            gt_dir,
            dataset.ann_file,
        )
        return cls(make_wider_gt(dataset.labels, dataset.ann_file))

    def compute(self, predictions: PredictionDict) -> dict[str, float]:
        """Return AP_easy, AP_medium, AP_hard (nan without faces) and counts."""
        self.result = result = evaluate_widerface(to_wider(predictions), self.gt)
        return {
            **{name: result.ap[setting] for name, setting in zip(self.names, SETTINGS, strict=True)},
            "num_images": result.num_images,
            "num_detections": result.num_detections,
            "num_empty_images": result.num_empty_images,
            "num_false_positives_on_empty_images": result.num_false_positives_on_empty,
            "false_positive_score_thr": result.false_positive_thr,
        }

    def report(self, folder: Path, title: str) -> str:
        """Write aps ("easy,medium,hard") and pr_curves.png; the first line is `APS: [easy, medium, hard]`."""
        from mmdet.evaluation.widerface.curves import write_curves  # brings OpenCV

        result = self.result
        assert result is not None
        aps = [result.ap[setting] for setting in SETTINGS]
        write_text(folder / "aps", ",".join(f"{ap:f}" for ap in aps), parents=True)
        write_curves(result, folder / "pr_curves.png", title)
        lines = [
            f"AP {setting:7s} {ap:.4f}  {result.num_faces[setting]} faces"
            for setting, ap in zip(SETTINGS, aps, strict=True)
        ]
        last = (
            f"{result.num_detections} detections on {result.num_images} images; {result.num_empty_images} "
            f"images without a face have {result.num_false_positives_on_empty} detections of score >= "
            f"{result.false_positive_thr:g} (not part of the AP)"
        )
        return "\n".join([f"APS: {aps}", *lines, last])


class HeightMetric:
    """AP and recall by the height of the labelled faces, as WIDER FACE counts; detections of class 0."""

    EDGES = (0, 10, 16, 32, 64, 128, np.inf)  # pixels of the image files
    BANDS: Heights = {f"h{low}": (low, high) for low, high in zip(EDGES, EDGES[1:], strict=False)}
    names: tuple[str, ...] = tuple(f"{figure}_{band}" for band in BANDS for figure in ("AP", "recall"))

    def __init__(self, gt: Sequence[WiderImage]) -> None:
        self.gt = gt
        self.result: WiderResult | None = None

    @classmethod
    def prepare(cls, dataset: "FacesDataset", cfg: MetricOptions) -> "HeightMetric":
        """Take the labels of the data set."""
        return cls(make_wider_gt(dataset.labels, dataset.ann_file, cls.BANDS))

    def compute(self, predictions: PredictionDict) -> dict[str, float]:
        """Return AP and, over all detections, recall of each band; nan without faces."""
        self.result = evaluate_widerface(to_wider(predictions), self.gt, settings=tuple(self.BANDS))
        return {name: self._figure(*name.split("_")) for name in self.names}

    def _figure(self, figure: str, band: str) -> float:
        assert self.result is not None
        if figure == "AP" or not self.result.num_faces[band]:
            return self.result.ap[band]
        return float(self.result.curves[band][-1, 0])

    def report(self, folder: Path, title: str) -> str:
        """Return one line per band."""
        result = self.result
        assert result is not None
        return "\n".join(
            f"height {low:g} to {high:g} px: AP {result.ap[band]:.4f}  "
            f"recall {self._figure('recall', band):.4f}  {result.num_faces[band]} faces"
            for band, (low, high) in self.BANDS.items()
        )


class MapMetric:
    """COCO-style AP on the label file; AP50 also under mmdet's name mAP, and per class of several."""

    names: tuple[str, ...] = ("mAP", "AP50", "AP75", "AP50:95", "AR50:95")

    def __init__(self, labels: "LabelFile") -> None:
        self.labels = labels
        self.figures: dict[str, float] = {}
        self.curves: dict[str, np.ndarray] = {}
        if len(labels.classes) > 1:
            self.names = (*self.names, *(f"AP50_{name}" for name in labels.classes))

    @classmethod
    def prepare(cls, dataset: "FacesDataset", cfg: MetricOptions) -> "MapMetric":
        """Take the labels of the data set."""
        return cls(dataset.labels)

    def compute(self, predictions: PredictionDict) -> dict[str, float]:
        """Return the figures of `names`, -1 where the labels hold no face."""
        from mmdet.evaluation.voc_map import judge_map  # brings pycocotools

        found, self.curves = judge_map(predictions, self.labels, self.labels.classes)
        self.figures = {"mAP": found["AP50"], **found}
        return self.figures

    def report(self, folder: Path, title: str) -> str:
        """Write pr_curves_mAP.png, a curve per class at IoU 0.5; return one line per figure."""
        from mmdet.evaluation.widerface.curves import plot_curves, save  # brings matplotlib

        if self.curves:
            curves = [(name, curve, None) for name, curve in self.curves.items()]
            save(plot_curves(curves, title), folder / "pr_curves_mAP.png")
        return "\n".join(f"{name:8s} {value:.4f}" for name, value in self.figures.items())


METRICS: dict[str, type[Metric]] = {
    "widerface": WiderFaceMetric,
    "heights": HeightMetric,
    "mAP": MapMetric,
    "retinaface": RetinaFaceMetric,
}


def prepare_metrics(dataset: "FacesDataset", cfg: MetricOptions) -> list[Metric]:
    """Return the metrics that cfg.metric names, with their ground truth read.

    Raises:
        ConfigError: an unknown metric, or cfg.save_best is no figure of theirs.
        DataError: the ground truth is missing or does not fit the data set.
    """
    for name in cfg.metric:
        if name not in METRICS:
            raise ConfigError(unknown_name("metric", name, METRICS))
    metrics = [METRICS[name].prepare(dataset, cfg) for name in cfg.metric]
    known = [name for metric in metrics for name in metric.names]
    if cfg.save_best not in ("auto", *known):
        raise ConfigError(unknown_name("evaluation.save_best", cfg.save_best, known))
    return metrics


def figure_names(metrics: Sequence[str]) -> list[str]:
    """Return the figures that every data set has for these names of METRICS."""
    return [name for metric in metrics for name in METRICS[metric].names]


def default_gt_dir(dataset: "FacesDataset") -> Path:
    """Return the gt folder beside the images folder, where a WIDER-shaped data set has its .mat files.

    Beside the path as it was given: images/ often is a link to another disk.
    """
    return dataset.img_prefix.absolute().parent / "gt"


def to_wider(predictions: PredictionDict) -> dict[str, dict[str, np.ndarray]]:
    """Return event -> image name without suffix -> (n, 5) x, y, w, h, score of class 0."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, rows in predictions.items():
        event, stem = split_name(name)
        found.setdefault(event, {})[stem] = rows[rows[:, 5] == 0, :5]
    return found
