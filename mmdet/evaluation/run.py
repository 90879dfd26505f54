"""What tools/test_widerface.py does: checkpoint in, easy / medium / hard AP and their files out."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmdet.apis import init_detector
from mmdet.config import load_config
from mmdet.config.types import EvalConfig
from mmdet.core.postprocess import Postprocess
from mmdet.datasets.build import build_dataset
from mmdet.errors import ConfigError, DataError
from mmdet.evaluation.metrics import prepare_metrics, to_wider
from mmdet.evaluation.predict import at_mode, predict_dataset
from mmdet.evaluation.widerface.files import (
    prediction_path,
    read_predictions,
    split_name,
    write_predictions,
)
from mmdet.files import write_json


def evaluate_checkpoint(  # noqa: PLR0913  the options of tools/test_widerface.py
    config: str | Path,
    checkpoint: str | Path,
    out: str | Path,
    *,
    mode: int = 0,
    score_thr: float = 0.02,
    gt_dir: str | Path | None = None,
    device: str = "auto",
    batch_size: int = 1,
    workers: int | None = None,
    half: bool = False,
    save_preds: bool = False,
    metrics: Sequence[str] = ("widerface",),
    cfg_options: Sequence[str] = (),
) -> dict[str, float]:
    """Evaluate a checkpoint on data.test of a config; print and return the figures, write them to `out`.

    Args:
        config: config file.
        checkpoint: weights, ours or mmdet's.
        out: folder for aps, metrics.json, pr_curves.png and predictions.
        mode: input size, see `at_mode`.
        score_thr: lowest score of a detection, instead of the config's.
        gt_dir: folder of the four .mat; None: evaluation.gt_dir of the config, else gt/ beside images/, else
            the same is made of the labels.
        device: "auto", "npu", "cuda" or "cpu".
        batch_size: images per forward pass.
        workers: processes that read images; None: 0 on a CPU, where they cost more than they save, else 2.
        half: half precision.
        save_preds: write EVENT/NAME.txt, detections of class 0.
        metrics: names of METRICS.
        cfg_options: changes to the config, "key=value".

    Raises:
        MMDetError: of the kind that fits; nothing is written before everything is known to be there.
    """
    if batch_size < 1:
        raise ConfigError(f"--batch-size {batch_size}: expected 1 or more.")
    cfg = load_config(config, cfg_options)
    if not cfg.data.test:
        raise ConfigError(f"config {config}: data.test is missing; it says where the test images are.")
    dataset = build_dataset(at_mode(cfg.data.test, mode), test_mode=True, path="data.test")
    gt_dir = gt_dir or (cfg.evaluation.gt_dir if cfg.evaluation else None)
    judges = prepare_metrics(
        dataset, EvalConfig(metric=tuple(metrics), gt_dir=str(gt_dir) if gt_dir else None)
    )
    if save_preds:
        for name in dataset.labels.names:
            prediction_path(out, *split_name(name))
    model = init_detector(cfg, checkpoint, device)
    torch_device = next(model.parameters()).device
    postprocess = Postprocess.from_test_cfg({**cfg.test_cfg, "score_thr": score_thr})
    _make_folder(Path(out))
    if workers is None:
        workers = 0 if torch_device.type == "cpu" else 2

    start = time.perf_counter()
    predictions = predict_dataset(model, dataset, postprocess, torch_device, batch_size, workers, half)
    time_s = time.perf_counter() - start
    if save_preds:
        write_predictions(to_wider(predictions), out)
    figures = {name: value for judge in judges for name, value in judge.compute(predictions).items()}
    for judge in judges:
        print(judge.report(Path(out), f"{Path(config).stem}, mode {mode}"), flush=True)
    extra = {
        "config": str(config),
        "checkpoint": str(checkpoint),
        "mode": mode,
        "score_thr": score_thr,
        "half": half,
        "batch_size": batch_size,
        "device": str(torch_device),
        "images_per_s": len(dataset) / max(time_s, 1e-9),
    }
    write_json(Path(out) / "metrics.json", {**extra, **figures})  # nan, a setting without faces, is null
    return figures


def evaluate_files(
    config: str | Path,
    predictions: str | Path,
    out: str | Path,
    *,
    metrics: Sequence[str] = ("widerface",),
    cfg_options: Sequence[str] = (),
) -> dict[str, float]:
    """Evaluate EVENT/NAME.txt files, of whatever program, on data.test of a config; return the figures.

    Args:
        config: config file.
        predictions: folder of the files; `write_predictions` writes such. Every image needs one.
        out: folder for metrics.json and what the metrics write.
        metrics: names of METRICS.
        cfg_options: changes to the config, "key=value".

    Raises:
        DataError: an image has no file, or a file is none.
    """
    cfg = load_config(config, cfg_options)
    if not cfg.data.test:
        raise ConfigError(f"config {config}: data.test is missing; it says where the test images are.")
    dataset = build_dataset(cfg.data.test, test_mode=True, path="data.test")
    judges = prepare_metrics(dataset, EvalConfig(metric=tuple(metrics)))
    found = read_predictions(predictions)
    rows = {}
    for name in dataset.labels.names:
        event, stem = split_name(name)
        if stem not in found.get(event, {}):
            raise DataError(
                f"{predictions}: no {event}/{stem}.txt; an image without detections needs one, too"
            )
        rows[name] = np.pad(found[event][stem], ((0, 0), (0, 1)))  # of class 0
    _make_folder(Path(out))
    figures = {name: value for judge in judges for name, value in judge.compute(rows).items()}
    for judge in judges:
        judge.report(Path(out), str(predictions))
    write_json(Path(out) / "metrics.json", {"predictions": str(predictions), **figures})
    return figures


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--out {folder}: cannot make this folder ({error}).") from error
