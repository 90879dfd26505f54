"""Make a checkpoint fit to publish: weights and plain facts only, with a hash in the name."""

import hashlib
from pathlib import Path

from mmdet.checkpoint.files import pack_weights
from mmdet.checkpoint.foreign import plain_values, read_foreign
from mmdet.checkpoint.keys import find_weights
from mmdet.errors import ConfigError
from mmdet.files import check_outputs, write_bytes

# What a user of the weights may need; everything else (optimizer, random state, hooks) stays behind.
META = ("CLASSES", "config", "epoch", "iter", "mmdet_version", "scrfd_trainer_version", "commit")
HASH_DIGITS = 8


def publish(source: str | Path, target: str | Path, overwrite: bool = False) -> Path:
    """Write OUT-<hash>.pth with the state_dict and a few plain facts; return its path.

    The hash is the beginning of the file's SHA-256, as torch.hub checks it. Weights are stored in the
    type they have, contiguous and on the CPU.

    Raises:
        CheckpointError: the source cannot be read.
        WriteError: the target cannot be written.
        ConfigError: the target is a folder, or exists with other content and `overwrite` is False.
    """
    target = Path(target)
    if target.is_dir():
        raise ConfigError(
            f"{target} is a folder; give the name of a file in it, for example {target}/model.pth"
        )
    content = read_foreign(source)
    meta = content.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    facts = {key: value for key in META if (value := plain_values(meta.get(key))) is not None}
    tensors = find_weights(content, str(source)).tensors
    target = target.with_suffix("") if target.suffix in (".pth", ".pt") else target
    data = pack_weights(tensors, facts)
    digest = hashlib.sha256(data).hexdigest()[:HASH_DIGITS]
    final = target.with_name(f"{target.name}-{digest}.pth")
    if final.is_file() and final.read_bytes() == data:
        return final
    check_outputs([final], [source], overwrite)
    write_bytes(final, data, parents=True)
    return final
