"""EvalHook: the evaluation of data.val while training, every rank its share, and the best checkpoint."""

import math
import re
from typing import Any

from torch import nn

from mmdet.checkpoint import files as checkpoint
from mmdet.config.types import RunConfig
from mmdet.core.postprocess import Postprocess
from mmdet.core.structures import Detections
from mmdet.datasets.build import build_dataset
from mmdet.distributed import broadcast_from_main, broadcast_object, gather_objects, rank, world_size
from mmdet.engine.logger import logger
from mmdet.engine.state import make_checkpoint
from mmdet.engine.trainer import Hook, Trainer
from mmdet.engine.watchdog import EVALUATION
from mmdet.errors import CheckpointError, ConfigError, DataError
from mmdet.evaluation.metrics import PredictionDict, prepare_metrics
from mmdet.evaluation.predict import merge_predictions, predict_dataset

WITHOUT_VAL = "--val-split 0.1 holds a tenth of data.train back, --no-validate trains without evaluation"
FIGURES_S = 600.0  # that rank 0 may take to compute figures, and the others wait for it


def best_name(figure: str, where: str) -> str:
    """Return best_FIGURE_WHERE.pth; what cannot stand in a file name, of a class's name, becomes _."""
    figure = re.sub(r"[^\w.:-]", "_", figure)
    return f"best_{figure}_{where}.pth"


def is_best_name(name: object) -> bool:
    """Say whether a name is one of `best_name`: a file of work_dir itself."""
    return isinstance(name, str) and re.fullmatch(r"best_[\w.:-]+\.pth", name) is not None


class EvalData:
    """The validation set and its metrics, checked before training starts.

    Args:
        cfg: the config file; data.val and evaluation.

    Raises:
        ConfigError: data.val is missing, or evaluation.save_best names no figure of the metrics.
        DataError: files are missing, or the ground truth names an image that data.val lacks.
    """

    def __init__(self, cfg: RunConfig) -> None:
        assert cfg.evaluation is not None
        if not cfg.data.val:
            raise ConfigError(f"data.val is missing: evaluation needs it. {WITHOUT_VAL}")
        try:
            self.dataset = build_dataset(cfg.data.val, test_mode=True, path="data.val")
        except DataError as error:
            raise DataError(f"{error}. This is data.val. {WITHOUT_VAL}") from error
        self.metrics = prepare_metrics(self.dataset, cfg.evaluation)

    def figures(self, predictions: PredictionDict) -> dict[str, float]:
        """Return the figures of all metrics, as one flat dict."""
        return {name: value for metric in self.metrics for name, value in metric.compute(predictions).items()}


class EvalHook(Hook):
    """Evaluates every `interval` epochs and after training, on all ranks at once.

    What is evaluated is what a checkpoint holds: fp32 weights, averaged ones with EMA, BatchNorm
    statistics of rank 0.

    Args:
        cfg: the config file; evaluation, test_cfg and data.
        data: the validation set.
        model: a detector of its own; it is moved to the device, its weights are overwritten.
    """

    name = "evaluation"

    def __init__(self, cfg: RunConfig, data: EvalData, model: nn.Module) -> None:
        assert cfg.evaluation is not None
        self.cfg, self.data, self.model = cfg.evaluation, data, model
        self.postprocess = Postprocess.from_test_cfg(cfg.test_cfg)
        self.batch_size, self.workers = cfg.data.val_samples_per_gpu, cfg.data.workers_per_gpu
        self.save_best = self.cfg.save_best
        self.best: dict[str, Any] = {}  # metric, value, file
        self.stale = 0  # evaluations since then
        self._evaluated_iter = -1

    def before_train(self, trainer: Trainer) -> None:
        """Evaluate an epoch that was saved but not evaluated before the run was interrupted."""
        self.model.to(trainer.step.device)
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

        def postprocess(*args: Any) -> list[Detections]:
            trainer.watch.beat(trainer.iter, EVALUATION)
            return self.postprocess(*args)

        share = predict_dataset(
            self.model,
            self.data.dataset,
            postprocess,
            trainer.step.device,
            self.batch_size,
            self.workers,
            rank=rank(),
            world_size=world_size(),
            show_progress=False,
        )
        trainer.watch.beat(trainer.iter, EVALUATION, allowed_s=FIGURES_S)
        shares = gather_objects(share)
        figures: dict[str, float] = {}
        if shares is not None:
            predictions = merge_predictions(shares)
            figures = self.data.figures(predictions)
            self._report(trainer, figures)
            trainer.call("after_eval", figures, predictions)
        self._keep_best(trainer, figures)
        trainer.watch.beat(trainer.iter, "after the evaluation")

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
        is_better = broadcast_object(self._is_better(figures))
        self.stale = 0 if is_better else self.stale + 1
        if self.cfg.patience is not None and self.stale >= self.cfg.patience:
            trainer.stop_reason = f"{self.save_best} has not been better for {self.stale} evaluations"
            logger.info("training ends here: %s (evaluation.patience)", trainer.stop_reason)
        if not is_better:
            return
        content = make_checkpoint(trainer)
        if content is None:
            return
        older = self.best.get("file")
        is_epoch_end = trainer.iter % trainer.facts.iters_per_epoch == 0
        where = f"epoch_{trainer.epoch}" if is_epoch_end else f"iter_{trainer.iter}"
        name = best_name(self.save_best, where)
        self.best = {"metric": self.save_best, "value": float(figures[self.save_best]), "file": name}
        content["hooks"][self.name] = self.state_dict()
        checkpoint.save(trainer.facts.work_dir / name, content)
        if older and older != name and is_best_name(older):
            (trainer.facts.work_dir / older).unlink(missing_ok=True)
        logger.info("best %s so far: %.4f, saved as %s", self.save_best, self.best["value"], name)

    def _is_better(self, figures: dict[str, float]) -> bool:
        value = figures.get(self.save_best or "", math.nan)
        if math.isnan(value) or self.best.get("metric") != self.save_best:
            return not math.isnan(value)
        return value < self.best["value"] if self.cfg.rule == "less" else value > self.best["value"]

    def state_dict(self) -> dict[str, Any]:
        """Return the best figure so far, and how many evaluations ago that was."""
        return {**self.best, **({"stale": self.stale} if self.stale else {})}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it.

        Raises:
            CheckpointError: it is none, or its file is not one that `best_name` names.
        """
        value = state.get("value", 0.0)
        if state and not (is_best_name(state.get("file")) and isinstance(value, float)):
            raise CheckpointError(
                f"the checkpoint names {str(state.get('file'))[:80]!r} as its best file; only best_*.pth of "
                "work_dir can be one. Do not trust where it comes from."
            )
        self.best = {key: state[key] for key in ("metric", "value", "file") if key in state}
        self.stale = int(state.get("stale", 0))
