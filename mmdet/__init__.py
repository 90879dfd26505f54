"""A trainer for SCRFD face detectors on Ascend NPU, CUDA and CPU.

Read in this order: core/structures.py (what travels between stages), datasets/, models/, core/,
engine/trainer.py (the loop), evaluation/. device.py is the only file that knows devices.
"""

from importlib import metadata

from mmdet.process import limit_image_pixels

__version__ = "0.1.0"


def _refuse_another_mmdet() -> None:
    """Stop if a distribution called mmdet is installed: two packages of one name mix silently."""
    try:
        other = metadata.distribution("mmdet")
    except metadata.PackageNotFoundError:
        return
    raise ImportError(
        f"mmdet {other.version} of another project is installed in {other.locate_file('')}; this "
        "repository's package has the same name. Run `pip uninstall mmdet`, or use a virtual "
        "environment of its own (`make venv`)."
    )


_refuse_another_mmdet()
limit_image_pixels()  # before anything imports OpenCV
