"""SheetHook: what training sees and what the model finds, as sheets of images in work_dir, on rank 0."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mmdet.config.types import VisualizeConfig
from mmdet.core.assigners import AssignAhead
from mmdet.core.structures import Sample
from mmdet.datasets.collate import Collate
from mmdet.datasets.draw import draw_sample, without_normalize
from mmdet.datasets.faces import FacesDataset
from mmdet.datasets.sampler import GroupBatchSampler
from mmdet.distributed import is_main
from mmdet.engine.eval_hook import EvalData
from mmdet.engine.results_hook import Painter
from mmdet.engine.trainer import Hook, Trainer
from mmdet.evaluation.metrics import PredictionDict
from mmdet.files import write_bytes
from mmdet.visualize import draw

MOST_PER_BATCH = 16
LEAST_SCORE = 0.3
_BATCH_PX, _VAL_PX = 320, 320


@dataclass(frozen=True)
class TrainView:
    """Where the first batches come from: the same files, random numbers and anchors as in training."""

    dataset: FacesDataset
    sampler: GroupBatchSampler
    collate: Collate
    assign: AssignAhead | None


class SheetHook(Hook):
    """Draws the first training batches and, after evaluations, detections and precision-recall curves.

    train_batch_N.jpg: labels as in `draw_faces`, and a dot at each positive anchor (where anchors and faces
    alone decide). val/detections.jpg: labels green, detections of score .3 and above yellow with the score.
    val/ also gets what the metrics report, pr_curves.png for example. Images are read again for this; no
    random number of training is drawn.

    Args:
        cfg: how many.
        train: where batches come from.
        val: the validation set; None: there are no evaluations.
    """

    name = "sheets"

    def __init__(self, cfg: VisualizeConfig, train: TrainView, val: EvalData | None) -> None:
        self.cfg, self.train, self.val = cfg, train, val
        self._batches = Painter("train_batch_*.jpg")
        self._detections, self._curves = Painter("val/detections.jpg"), Painter("the curves of val/")
        self._last_predictions: PredictionDict | None = None

    def before_train(self, trainer: Trainer) -> None:
        """Draw the first batches of a new run."""
        if is_main() and not trainer.iter and self.cfg.batches:
            self._batches.draw(lambda: self._draw_batches(trainer.facts.work_dir))

    def after_eval(self, trainer: Trainer, figures: dict[str, float], predictions: PredictionDict) -> None:
        """Draw detections and curves."""
        self._last_predictions = predictions
        self._draw_val(trainer, is_last=trainer.iter == trainer.facts.total_iters)

    def after_train(self, trainer: Trainer) -> None:
        """Draw those of the last evaluation, if that was passed over."""
        if self._last_predictions is not None:
            self._draw_val(trainer, is_last=True)

    def _draw_val(self, trainer: Trainer, is_last: bool) -> None:
        assert self.val is not None and self._last_predictions is not None
        folder, predictions = trainer.facts.work_dir / "val", self._last_predictions
        metrics = self.val.metrics

        def draw_curves() -> None:
            folder.mkdir(exist_ok=True)
            for metric in metrics:
                metric.report(folder, f"iter {trainer.iter}")

        if self.cfg.plots:
            self._curves.draw(draw_curves, is_last)
        if self.cfg.detections:
            self._detections.draw(partial(self._draw_detections, folder, predictions), is_last)
        if is_last:
            self._last_predictions = None

    def _draw_batches(self, folder: Path) -> None:
        view = self.train
        dataset = copy.copy(view.dataset)
        dataset.pipeline = without_normalize(dataset.pipeline)
        for number, ids in enumerate(view.sampler.batches(epoch=0)[: self.cfg.batches]):
            samples = [dataset[one] for one in ids[:MOST_PER_BATCH]]
            centers = self._positive_centers(samples)
            images = [draw_with_anchors(*pair) for pair in zip(samples, centers, strict=True)]
            path = folder / f"train_batch_{number}.jpg"
            sheet = draw.make_sheet((draw.fit(image, _BATCH_PX)[0] for image in images), _BATCH_PX, columns=4)
            write_bytes(path, draw.encode(path.name, sheet), durable=False)

    def _positive_centers(self, samples: Sequence[Sample]) -> list[np.ndarray]:
        """Return (n, 2) centres of the positive anchors of each sample, pixels."""
        assign = self.train.assign
        if assign is None:
            return [np.zeros((0, 2))] * len(samples)
        batch = self.train.collate(samples)
        assigned = assign(batch) if batch.assigned is None else batch.assigned
        centers = assign.grid(batch).centers.numpy()  # (A, 2)
        return [centers[is_positive] for is_positive in assigned.is_positive.numpy()]

    def _draw_detections(self, folder: Path, predictions: PredictionDict) -> None:
        assert self.val is not None
        dataset = self.val.dataset
        path = folder / "detections.jpg"
        images = [
            draw_detections(dataset.load(index), predictions[dataset.name(index)], _VAL_PX)
            for index in draw.spread(len(dataset), self.cfg.detections)
        ]
        sheet = draw.make_sheet(images, _VAL_PX, columns=4)
        write_bytes(path, draw.encode(path.name, sheet), parents=True, durable=False)


def draw_with_anchors(sample: Sample, centers: np.ndarray) -> np.ndarray:
    """Return a training sample's image with its labels and (n, 2) centres of positive anchors."""
    image = draw_sample(sample)
    draw.draw_points(image, centers, draw.CYAN)
    return image


def draw_detections(sample: Sample, rows: np.ndarray, side: int) -> np.ndarray:
    """Return an image of `side` px with labels and (n, 6) detections x, y, w, h, score, class."""
    image, scale = draw.fit(sample.image, side)
    kps = sample.gt_kps * np.array([scale, scale, 1], np.float32)
    draw.draw_faces(image, sample.gt_bboxes * scale, kps, sample.gt_bboxes_ignore * scale)
    shown = rows[rows[:, 4] >= LEAST_SCORE]
    bboxes = np.concatenate([shown[:, :2], shown[:, :2] + shown[:, 2:4]], axis=1) * scale
    draw.draw_bboxes(image, bboxes, draw.YELLOW)
    for (x1, y1, *_), score in zip(bboxes, shown[:, 4], strict=True):
        draw.draw_text(image, f"{score:.2f}"[1:], x1, max(y1 - 2, 10), draw.YELLOW)
    return image
