"""Label files and images in, `Batch`es of fixed shapes out; nothing here touches an accelerator.

Read in this order: labels/ (one reader per format), faces (the data set), cache, transforms/, sampler,
collate, loader (with notes), device_augment, build, draw. toy/ makes a drawn data set.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import build.py, and with it torch, only when it is asked for: label files are read without."""
    if name != "build_dataset":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mmdet.datasets.build import build_dataset

    return build_dataset
