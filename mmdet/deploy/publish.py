"""Make a checkpoint fit to publish: weights and plain facts only, with a hash in the name."""

import hashlib
import os
from pathlib import Path
from typing import Any

from mmdet import checkpoint
from mmdet.deploy.foreign import find_weights, plain_values, read_foreign
from mmdet.errors import CheckpointError

# What a user of the weights may need; everything else (optimizer, random state, hooks) stays behind.
META = ("CLASSES", "config", "epoch", "iter", "mmdet_version", "scrfd_trainer_version", "commit")
HASH_DIGITS = 8


def publish(source: str | Path, target: str | Path) -> Path:
    """Write OUT-<hash>.pth with the state_dict and a few plain facts; return its path.

    The hash is the beginning of the file's SHA-256, as torch.hub checks it. Weights are stored in the
    type they have, contiguous and on the CPU.

    Raises:
        CheckpointError: the source cannot be read, or the target cannot be written.
    """
    content = read_foreign(source)
    meta = content.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    weights = {key: value.detach().contiguous() for key, value in find_weights(content, str(source)).items()}
    slim: dict[str, Any] = {
        "meta": {key: value for key in META if (value := plain_values(meta.get(key))) is not None},
        "state_dict": weights,
    }
    target = Path(target)
    target = target.with_suffix("") if target.suffix == ".pth" else target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{target.parent}: cannot be made ({error.strerror or error})") from None
    unhashed = target.with_name(f".{target.name}.{os.getpid()}.pth")
    try:
        checkpoint.save(unhashed, slim)
        digest = hashlib.sha256(unhashed.read_bytes()).hexdigest()[:HASH_DIGITS]
        final = target.with_name(f"{target.name}-{digest}.pth")
        os.replace(unhashed, final)
    finally:
        unhashed.unlink(missing_ok=True)
    return final
