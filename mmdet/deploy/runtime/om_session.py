"""An OM model on an Ascend chip, with the few methods of an onnxruntime session that `session.Model` calls.

Runs through ais_bench, the Python runtime of Ascend's inference tools. The model's description is the JSON
file that tools/scrfd2onnx.py wrote, copied to the OM file's name.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from mmdet.deploy.runtime.description import METADATA_KEY
from mmdet.errors import CheckpointError, DeviceError

SUFFIX = ".om"
PROVIDER = "OMExecutionProvider"


class OmSession:
    """Runs one OM model of fixed shape.

    Args:
        path: the OM file.
        device_id: of the chip.

    Raises:
        CheckpointError: no such file, or it takes uint8 images (AIPP), which the detector does not feed.
        DeviceError: ais_bench is missing, or it cannot open the file.
    """

    def __init__(self, path: str | Path, device_id: int = 0) -> None:
        if not Path(path).is_file():
            raise CheckpointError(f"{path}: no such file")
        try:
            from ais_bench.infer.interface import InferSession
        except ImportError as error:
            raise DeviceError(
                f"{path}: an OM model needs Ascend's Python runtime ({error}); install ais_bench and CANN"
            ) from None
        try:
            self.session: Any = InferSession(device_id, str(path))
        except Exception as error:  # its library raises RuntimeError and others
            raise DeviceError(f"{path} cannot be opened on NPU {device_id} ({error})") from None
        if "int8" in str(self.session.get_inputs()[0].datatype).lower():
            raise CheckpointError(
                f"{path} takes uint8 images (AIPP); the detector feeds fp32: convert without --uint8"
            )
        description = Path(path).with_suffix(".json")
        self.metadata = {METADATA_KEY: description.read_text()} if description.is_file() else {}

    def get_inputs(self) -> list[SimpleNamespace]:
        """Return name and shape of each input."""
        return [SimpleNamespace(name=i.name, shape=list(i.shape)) for i in self.session.get_inputs()]

    def get_outputs(self) -> list[SimpleNamespace]:
        """Return name and shape of each output."""
        return [SimpleNamespace(name=o.name, shape=list(o.shape)) for o in self.session.get_outputs()]

    def get_modelmeta(self) -> SimpleNamespace:
        """Return the description as onnxruntime does."""
        return SimpleNamespace(custom_metadata_map=self.metadata)

    def get_providers(self) -> list[str]:
        """Return what runs the model."""
        return [PROVIDER]

    def set_providers(self, providers: Sequence[str], options: object = None) -> None:
        """Refuse: an OM model runs where it was opened.

        Raises:
            DeviceError: always.
        """
        raise DeviceError(f"an OM model cannot move to {', '.join(providers)}; open the ONNX file there")

    def run(self, names: None, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Return all outputs, fp32.

        Raises:
            RuntimeError: the input does not have the model's shape.
        """
        (blob,) = feeds.values()
        shape = tuple(self.get_inputs()[0].shape)
        if blob.shape != shape:
            raise RuntimeError(f"the OM model takes {shape}")
        outputs = self.session.infer([np.ascontiguousarray(blob)], mode="static")
        return [np.asarray(out, np.float32) for out in outputs]
