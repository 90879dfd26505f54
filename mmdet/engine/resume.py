"""Which checkpoint a run continues from, and what has changed since it was saved.

`load_resumable` finds it; `identity` is what a checkpoint keeps of its run; `tell_changes` compares.
"""

import dataclasses
import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdet.checkpoint.foreign import read_foreign
from mmdet.config.types import RunConfig
from mmdet.datasets.labels import LabelFile
from mmdet.distributed import broadcast_object, is_main
from mmdet.errors import CheckpointError

logger = logging.getLogger("mmdet")

NEEDED = ("state_dict", "optimizer", "precision", "position")
POSITION = ("iter", "iters_per_epoch", "batch_size", "seed")
MAX_INT = 2**63  # of a position
STEPPED = ("state_dict", "optimizer", "precision", "ema")  # whose numbers the next step takes
# Keys of the config that may change without changing what is learned.
UNTOLD = ("work_dir", "resume_from", "load_", "text", "filename", "unused", "log_", "seed", "visualize")
PATHS = ("data_root", "ann_file", "img_prefix", "gt_dir", "cache_dir")  # the labels have a digest
SHOWN = 6
# A setting that every step of a kind of optimizer reads from its groups.
OPTIMIZER_SETTINGS = ("momentum", "dampening", "betas")


def load_resumable(source: str, work_dir: Path) -> dict[str, Any] | None:
    """Return the checkpoint to continue from, the same on all ranks.

    Args:
        source: a file; a folder: its latest.pth, or the newest readable one before it; "auto": work_dir.
        work_dir: where "auto" looks.

    Returns:
        The content; None if "auto" finds no checkpoint, which starts from scratch.

    Raises:
        CheckpointError: the file is missing, damaged or no training state; or "auto" finds damaged ones only.
    """
    return broadcast_object(_load_resumable(source, work_dir) if is_main() else None)


def _load_resumable(source: str, work_dir: Path) -> dict[str, Any] | None:
    folder = work_dir if source == "auto" else Path(source)
    if source != "auto" and not folder.is_dir():
        return _load_state(folder)
    candidates = find_checkpoints(folder)
    if not candidates and source != "auto":
        raise CheckpointError(f"{folder}: a folder without latest.pth or epoch_N.pth; give a checkpoint")
    if not candidates:
        logger.info("resume auto: no checkpoint in %s, starting from scratch", work_dir)
        return None
    for path in candidates:
        try:
            return _load_state(path)
        except CheckpointError as error:
            logger.warning("resume auto: passing over %s", error)
    raise CheckpointError(f"no readable checkpoint in {folder}; remove the damaged ones to start again")


def _load_state(path: Path) -> dict[str, Any]:
    content = read_foreign(path)
    missing = [key for key in NEEDED if key not in content]
    if missing:
        raise CheckpointError(
            f"{path} holds no training state (no {', '.join(missing)}); --load-from takes its weights"
        )
    _check_state(content, path)
    logger.info("resuming from %s, iter %d", path, content["position"]["iter"])
    return content


def _check_state(content: Mapping[str, Any], path: Path) -> None:
    """Check the types that `restore` relies on; what is inside tensors is the model's business."""
    dicts = ("state_dict", "optimizer", "precision", "position", "hooks", "meta", "identity")
    wrong = [key for key in dicts if not isinstance(content.get(key, {}), Mapping)]
    position = content["position"]
    if not wrong:
        wrong = [f"position.{key}" for key in POSITION if not isinstance(position.get(key), int)]
    if not wrong:
        is_sane = position["iter"] >= 0 and position["iters_per_epoch"] > 0 and position["batch_size"] > 0
        is_sane = is_sane and all(abs(position[key]) < MAX_INT for key in POSITION)
        wrong += [] if is_sane else ["position"]
        wrong += [] if isinstance(content["optimizer"].get("param_groups"), list) else ["optimizer"]
        wrong += [f"hooks.{k}" for k, v in content.get("hooks", {}).items() if not isinstance(v, Mapping)]
        wrong += [] if isinstance(content.get("ema"), Mapping | None) else ["ema"]
        wrong += [] if _are_states(content.get("rng")) else ["rng"]
    if wrong:
        raise CheckpointError(
            f"{path} holds no training state of this trainer: {wrong[0]} is not as it is saved"
        )
    for name, tensor in _tensors({key: content.get(key) for key in STEPPED}):
        is_variance = name.endswith(".running_var")
        if not (tensor.isfinite().all() and (not is_variance or (tensor >= 0).all())):
            what = "a variance below 0 or not finite" if is_variance else "nan or inf"
            raise CheckpointError(f"{path}: {name} holds {what}; resume from an earlier checkpoint")


def _tensors(value: object, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield name and tensor of all that are nested in dicts and lists."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Mapping | list | tuple):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _tensors(item, f"{path}.{key}" if path else str(key))


def _are_states(rng: object) -> bool:
    return rng is None or (isinstance(rng, list) and all(isinstance(state, Mapping) for state in rng))


def find_checkpoints(work_dir: Path) -> list[Path]:
    """Return latest.pth, then epoch_N.pth by falling N, as far as they exist."""
    latest = work_dir / "latest.pth"
    by_epoch = [(number, path) for path in work_dir.glob("epoch_*.pth") if (number := epoch_of(path))]
    return [path for path in [latest] if path.is_file()] + [path for _, path in sorted(by_epoch)[::-1]]


def epoch_of(path: Path) -> int | None:
    """Return N of epoch_N.pth, None for another name."""
    match = re.fullmatch(r"epoch_(\d{1,9})\.pth", path.name)
    return int(match[1]) if match else None


def identity(cfg: RunConfig, labels: LabelFile) -> dict[str, Any]:
    """Return what a checkpoint keeps to tell a later run what has changed.

    Returns:
        Plain values: "config" is key -> text of its value; "labels" is a digest of all that training reads of
        the label file, "images" and "faces" count them; "classes".
    """
    digest = hashlib.sha256("\n".join((*labels.names, *labels.classes)).encode("utf-8", "surrogatepass"))
    for array in (
        labels.sizes_hw,
        labels.offsets,
        labels.bboxes,
        labels.labels,
        labels.kps,
        labels.is_ignored,
    ):
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(array.tobytes())
    return {
        "config": _flatten(cfg),
        "labels": digest.hexdigest(),
        "images": len(labels),
        "faces": int((~labels.is_ignored).sum()),
        "classes": tuple(labels.classes),
    }


def _flatten(value: Any, path: str = "") -> dict[str, str]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    items = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    )
    if items is None:
        return {path: repr(value)}
    return {
        key: text
        for name, item in items
        for key, text in _flatten(item, f"{path}.{name}" if path else str(name)).items()
    }


def tell_changes(saved: Mapping[str, Any] | None, mine: Mapping[str, Any]) -> None:
    """Log, in one warning, what has changed since the checkpoint was saved; older ones do not say.

    Raises:
        CheckpointError: the classes are others: the weights mean something else.
    """
    if not saved:
        return
    if tuple(saved.get("classes", ())) != mine["classes"]:
        raise CheckpointError(
            f"the checkpoint was trained on the classes {saved.get('classes')}, this data set has "
            f"{mine['classes']}; --load-from starts a new training from its weights"
        )
    before, now = saved.get("config", {}), mine["config"]
    told = (key for key in {**before, **now} if not key.startswith(UNTOLD) and not key.endswith(PATHS))
    keys = [key for key in told if before.get(key) != now.get(key)]
    changes = [f"{key} {_short(before.get(key))} -> {_short(now.get(key))}" for key in keys[:SHOWN]]
    changes += [f"{len(keys) - SHOWN} more keys"] if len(keys) > SHOWN else []
    if saved.get("labels") != mine["labels"]:
        sizes = [f"{which.get('images')} images, {which.get('faces')} faces" for which in (saved, mine)]
        changes.append(f"the labels of data.train ({sizes[0]} -> {sizes[1]})")
    if changes:
        logger.warning("resume: changed since the checkpoint was saved: %s", "; ".join(changes))


def _short(text: str | None) -> str:
    text = str(text)
    return text if len(text) <= 40 else text[:37] + "..."


def check_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Refuse the state of an optimizer of another kind, known by its settings, before anything is written.

    Raises:
        CheckpointError: a group of parameters has other settings, or the state is none.
    """
    groups = [group for group in saved["param_groups"] if isinstance(group, Mapping)]
    own = [name for name in OPTIMIZER_SETTINGS if name in optimizer.param_groups[0]]
    fits = all([name for name in OPTIMIZER_SETTINGS if name in group] == own for group in groups)
    if not fits or len(groups) != len(saved["param_groups"]):
        raise CheckpointError(
            f"the checkpoint's optimizer is another than this run's {type(optimizer).__name__}: it cannot "
            "continue. --load-from starts a new training from the weights."
        )
