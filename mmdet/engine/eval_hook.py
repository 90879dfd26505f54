"""EvalHook: the evaluation of data.val while training, every rank its share, and the best checkpoint."""

import math
from pathlib import Path
from typing import Any

from torch import nn

from mmdet.checkpoint import files as checkpoint
from mmdet.config.types import RunConfig
from mmdet.core.postprocess import Postprocess
from mmdet.datasets.build import build_dataset
from mmdet.datasets.faces import FacesDataset
from mmdet.distributed import broadcast_from_main, broadcast_object, gather_objects, rank, world_size
from mmdet.engine.logger import logger
from mmdet.engine.state import make_checkpoint
from mmdet.engine.trainer import Hook, Trainer
from mmdet.errors import ConfigError, DataError, unknown_name
from mmdet.evaluation.predict import merge_predictions, predict_dataset
from mmdet.evaluation.report import default_gt_dir, wider_figures
from mmdet.evaluation.voc_map import evaluate_map
from mmdet.evaluation.widerface.ap import evaluate_widerface
from mmdet.evaluation.widerface.files import WiderImage, read_wider_gt, split_name

FIGURES = {
    "widerface": ("AP_easy", "AP_medium", "AP_hard"),
    "mAP": ("mAP", "AP50", "AP75", "AP50:95", "AR50:95"),
}


class EvalData:
    """The validation set, checked before training starts.

    Args:
        cfg: the config file; data.val and evaluation.

    Attributes:
        metrics: what to compute; "mAP" instead of "widerface" where there is no gt folder.

    Raises:
        DataError: files are missing, or the ground truth names an image that data.val lacks.
    """

    def __init__(self, cfg: RunConfig) -> None:
        assert cfg.evaluation is not None
        if not cfg.data.val:
            raise ConfigError("data.val is missing: evaluation needs it; or pass --no-validate")
        self.dataset: FacesDataset = build_dataset(cfg.data.val, test_mode=True, path="data.val")
        self.metrics = cfg.evaluation.metric
        self.gt: list[WiderImage] = []
        if "widerface" not in self.metrics:
            return
        gt_dir = Path(cfg.evaluation.gt_dir or default_gt_dir(self.dataset))
        if not cfg.evaluation.gt_dir and not gt_dir.is_dir():
            logger.warning(
                "no ground truth in %s: evaluating mAP on data.val's labels instead of the WIDER protocol. "
                "tools/make_wider_gt.py writes it from labelv2.txt",
                gt_dir,
            )
            self.metrics = ("mAP",)
            return
        self.gt = read_wider_gt(gt_dir)
        names = {split_name(name) for name in self.dataset.labels.names}
        missing = [
            f"{image.event}/{image.name}" for image in self.gt if (image.event, image.name) not in names
        ]
        if missing:
            raise DataError(
                f"{self.dataset.ann_file} lacks {len(missing)} of {len(self.gt)} images of {gt_dir}, "
                f"the first: {missing[0]}"
            )

    def check_save_best(self, key: str | None) -> str | None:
        """Return the figure that decides which checkpoint is the best; mAP after falling back to it.

        Raises:
            ConfigError: no metric gives a figure of this name.
        """
        known = [name for metric in self.metrics for name in FIGURES[metric]]
        if key is None or key in known:
            return key
        if key in FIGURES["widerface"]:
            return "mAP"
        raise ConfigError(unknown_name("evaluation.save_best", key, known))

    def figures(self, predictions: dict) -> dict[str, float]:
        """Return the figures of all metrics, as one flat dict."""
        figures: dict[str, float] = {}
        if "widerface" in self.metrics:
            figures |= wider_figures(evaluate_widerface(predictions, self.gt))
        if "mAP" in self.metrics:
            found = evaluate_map(predictions, self.dataset.labels)
            figures |= {"mAP": found["AP50"], **found}  # mmdet's mAP is the VOC number at IoU 0.5
        return figures


class EvalHook(Hook):
    """Evaluates every `interval` epochs and after training, on all ranks at once.

    What is evaluated is what a checkpoint holds: fp32 weights, averaged ones with EMA, BatchNorm
    statistics of rank 0.

    Args:
        cfg: the config file; evaluation, test_cfg and data.
        data: the validation set.
        model: a detector of its own, on the device; its weights are overwritten.
    """

    name = "evaluation"

    def __init__(self, cfg: RunConfig, data: EvalData, model: nn.Module) -> None:
        assert cfg.evaluation is not None
        self.cfg, self.data, self.model = cfg.evaluation, data, model
        self.postprocess = Postprocess.from_test_cfg(cfg.test_cfg)
        self.batch_size, self.workers = cfg.data.val_samples_per_gpu, cfg.data.workers_per_gpu
        self.save_best = data.check_save_best(self.cfg.save_best)
        self.best: dict[str, Any] = {}  # metric, value, file
        self._evaluated_iter = -1

    def before_train(self, trainer: Trainer) -> None:
        """Make up for an evaluation that a crash prevented after its checkpoint was saved."""
        is_between_epochs = trainer.iter and trainer.iter % trainer.facts.iters_per_epoch == 0
        if is_between_epochs and trainer.iter < trainer.facts.total_iters:
            self.after_epoch(trainer)

    def after_epoch(self, trainer: Trainer) -> None:
        """Evaluate when due."""
        start = self.cfg.interval if self.cfg.start is None else max(self.cfg.start, 1)
        if trainer.epoch >= start and (trainer.epoch - start) % self.cfg.interval == 0:
            self._evaluate(trainer)

    def after_train(self, trainer: Trainer) -> None:
        """Evaluate the final weights, whatever the interval."""
        self._evaluate(trainer)

    def _evaluate(self, trainer: Trainer) -> None:
        if self._evaluated_iter == trainer.iter:
            return
        self._evaluated_iter = trainer.iter
        trainer.step.guard.check()
        source = trainer.step.precision.named_masters() if trainer.ema is None else trainer.ema.average
        self.model.load_state_dict(source)
        broadcast_from_main(list(self.model.buffers()))
        share = predict_dataset(
            self.model,
            self.data.dataset,
            self.postprocess,
            trainer.step.device,
            self.batch_size,
            self.workers,
            rank=rank(),
            world_size=world_size(),
            show_progress=False,
        )
        shares = gather_objects(share)
        figures: dict[str, float] = {}
        if shares is not None:
            figures = self.data.figures(merge_predictions(shares))
            self._report(trainer, figures)
        self._keep_best(trainer, figures)

    def _report(self, trainer: Trainer, figures: dict[str, float]) -> None:
        shown = ", ".join(
            f"{k}: {v:.4f}" if isinstance(v, float) else f"{k}: {v}" for k, v in figures.items()
        )
        logger.info("Epoch(val) [%d]\t%s", trainer.epoch, shown)
        lr = float(trainer.step.optimizer.param_groups[0]["lr"])  # a tensor in a recorded step
        record = {"mode": "val", "epoch": trainer.epoch, "iter": len(self.data.dataset), "lr": lr, **figures}
        trainer.log.write(record, step=trainer.iter)
        trainer.metrics |= figures

    def _keep_best(self, trainer: Trainer, figures: dict[str, float]) -> None:
        """Save the weights if they are the best so far; rank 0 decides, all ranks take part."""
        if not self.save_best or not broadcast_object(self._is_better(figures)):
            return
        content = make_checkpoint(trainer)
        if content is None:
            return
        older = self.best.get("file")
        is_epoch_end = trainer.iter % trainer.facts.iters_per_epoch == 0
        where = f"epoch_{trainer.epoch}" if is_epoch_end else f"iter_{trainer.iter}"
        name = f"best_{self.save_best}_{where}.pth"
        self.best = {"metric": self.save_best, "value": float(figures[self.save_best]), "file": name}
        content["hooks"][self.name] = self.state_dict()
        checkpoint.save(trainer.facts.work_dir / name, content)
        if older and older != name:
            (trainer.facts.work_dir / older).unlink(missing_ok=True)
        logger.info("best %s so far: %.4f, saved as %s", self.save_best, self.best["value"], name)

    def _is_better(self, figures: dict[str, float]) -> bool:
        value = figures.get(self.save_best or "", math.nan)
        if math.isnan(value) or self.best.get("metric") != self.save_best:
            return not math.isnan(value)
        return value < self.best["value"] if self.cfg.rule == "less" else value > self.best["value"]

    def state_dict(self) -> dict[str, Any]:
        """Return the best figure so far."""
        return dict(self.best)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""
        self.best = dict(state)
