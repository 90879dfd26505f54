"""A trainer for SCRFD face detectors on Ascend NPU, CUDA and CPU.

Read in this order: core/structures.py (what travels between stages), datasets/, models/, core/,
engine/trainer.py (the loop), evaluation/. device.py is the only file that knows devices.
"""

__version__ = "0.1.0"
