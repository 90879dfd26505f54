"""The networks and what they learn from.

build.py makes a detector and its criterion from a config's `model`; each kind of part has a folder with a
table of its names in `__init__.py`. Read layers.py, backbones/ (plainnet/ holds what MasterNet is made of),
necks/, dense_heads/, detectors/dense.py; then losses/ and criteria/. init.py says how weights start and
flops.py counts. Nothing here knows which device it runs on.
"""

from typing import Any

__all__ = ["build_criterion", "build_detector"]


def __getattr__(name: str) -> Any:
    """Import build.py, and with it torch, only when it is asked for: plainnet/ reads structures without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mmdet.models import build

    return getattr(build, name)
