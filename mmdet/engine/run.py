"""What tools/train.py does: config file and options in, a finished run in work_dir out.

The order is deliberate: everything that can be wrong (config, device, data, weights, work_dir) is looked
at before the first file is written.
"""

import json
import logging
import platform
import time
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import Any

from mmdet import __version__
from mmdet.config import AmpConfig, EvalConfig
from mmdet.device import device_summary
from mmdet.distributed import DistInfo, barrier, is_main
from mmdet.engine.assemble import build_trainer
from mmdet.engine.lock import lock_work_dir
from mmdet.engine.logger import RunLog
from mmdet.engine.options import TrainOptions
from mmdet.engine.trainer import Trainer
from mmdet.errors import ConfigError, WriteError
from mmdet.evaluation.metrics import figure_names
from mmdet.files import file_key, write_json, write_text

logger = logging.getLogger("mmdet")

DUMP_MARK = "# The config of a run with all its bases and options, written by tools/train.py.\n"


def run_training(options: TrainOptions, info: DistInfo) -> dict:
    """Train as the options say; return the figures that are also in work_dir/metrics.json.

    Args:
        options: the command line.
        info: this process among all, from `distributed.read_launch`.

    Raises:
        MMDetError: for wrong input, before anything is written; or training failed.
    """
    started_s = time.perf_counter()
    log, lock = RunLog(rank=info.rank), ExitStack()
    try:
        trainer = build_trainer(options, info, log)
        _start_files(trainer, options, lock)
        first_iter = trainer.iter
        training_s = time.perf_counter()
        trainer.train()
        ended_s = time.perf_counter()
        figures = _figures(trainer, ended_s - training_s, ended_s - started_s)
        path = trainer.facts.work_dir / "metrics.json"
        if trainer.iter == first_iter:
            figures = _with_older(figures, path)
        if is_main():
            _write_metrics(path, figures)
        return figures
    finally:
        lock.close()
        log.close()


def _with_older(figures: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the figures of a run that was resumed at its end, completed by those it had before."""
    try:
        older = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return figures
    if not isinstance(older, dict) or older.get("iters") != figures["iters"]:
        return figures
    known = {k: v for k, v in figures.items() if v not in (None, {}) and not k.endswith("time_s")}
    return {**figures, **older, **known}


def _write_metrics(path: Path, figures: dict[str, Any]) -> None:
    """Write metrics.json; a full disk must not turn a finished training into a failed one."""
    try:
        write_json(path, figures)
        logger.info("done: %s", path)
    except WriteError as error:
        logger.error("%s", error)


def _start_files(trainer: Trainer, options: TrainOptions, lock: ExitStack) -> None:
    """Make work_dir, open the logs, and write down what exactly is run."""
    facts, cfg, summary = trainer.facts, trainer.facts.cfg, device_summary(trainer.step.device)
    try:
        if is_main():
            facts.work_dir.mkdir(parents=True, exist_ok=True)
            lock.enter_context(lock_work_dir(facts.work_dir) or nullcontext())
            write_text(_config_path(facts.work_dir, options.config), DUMP_MARK + cfg.text)
        trainer.log.open(facts.work_dir, time.strftime("%Y%m%d_%H%M%S"))
    except OSError as error:
        raise ConfigError(f"work_dir {facts.work_dir}: {error.strerror or error}; choose another") from error
    trainer.log.write(
        {
            "env_info": f"{summary}, Python {platform.python_version()}, scrfd-trainer {__version__}",
            "commit": facts.commit,
            "config": cfg.text,
            "seed": facts.seed,
            "exp_name": Path(options.config).name,
        }
    )
    barrier()
    amp = describe_amp(cfg.amp)
    logger.info("%s, %d rank(s), amp %s, commit %s", summary, facts.world_size, amp, facts.commit)
    logger.info(
        "config %s, work_dir %s, seed %d, %d images per step, %d iters per epoch, iters %d to %d",
        cfg.filename,
        facts.work_dir,
        facts.seed,
        facts.batch_size_total,
        facts.iters_per_epoch,
        trainer.iter,
        facts.total_iters,
    )


def _config_path(work_dir: Path, config: str) -> Path:
    """Return where the resolved config is written: never over a file that is no earlier dump of a run.

    work_dir may hold the config file itself, its bases, or notes of that name.
    """
    path = work_dir / Path(config).with_suffix(".py").name
    while path.exists() and (file_key(path) == file_key(config) or not _is_dump(path)):
        path = path.with_name(f"{path.stem}.resolved.py")
    return path


def _is_dump(path: Path) -> bool:
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read(len(DUMP_MARK)) == DUMP_MARK
    return False


def describe_amp(amp: AmpConfig) -> str:
    """Return "O0", or level, dtype, loss scale and backend."""
    details = f" {amp.dtype} loss_scale={amp.loss_scale} {amp.backend}" if amp.level != "O0" else ""
    return amp.level + details


def _figures(trainer: Trainer, train_time_s: float, e2e_time_s: float) -> dict:
    """Return the content of metrics.json; figures that this run does not have are null."""
    facts, device = trainer.facts, trainer.step.device
    evaluation = facts.cfg.evaluation or EvalConfig()
    blank = dict.fromkeys(("fps", "fps_per_rank", *figure_names(evaluation.metric), "loss"))
    return {
        **blank,
        "image_notes": {},
        **trainer.metrics,
        "iters": trainer.iter,
        "epochs": trainer.epoch,
        "train_time_s": train_time_s,
        "e2e_time_s": e2e_time_s,
        "world_size": facts.world_size,
        "batch_size": facts.batch_size_per_rank,
        "batch_size_all_ranks": facts.batch_size_total,
        "device": device.type,
        "device_summary": device_summary(device),
        "amp": describe_amp(facts.cfg.amp),
        "seed": facts.seed,
        "work_dir": str(facts.work_dir),
        "commit": facts.commit,
    }
