"""An ONNX file opened with onnxruntime: what goes in, what comes out, on which provider."""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from mmdet.deploy.runtime.checks import check_count
from mmdet.deploy.runtime.description import METADATA_KEY, Description, guess
from mmdet.errors import CheckpointError, ConfigError, DeviceError, unknown_name

if TYPE_CHECKING:
    import onnxruntime

    from mmdet.deploy.runtime.om_session import OmSession

SUFFIX = "ExecutionProvider"
CPU = f"CPU{SUFFIX}"
T = TypeVar("T")
OM = "om"
REMOTE = f"Azure{SUFFIX}"  # in every build; sends the picture to a service, so never chosen by "auto"


class LevelOutput(NamedTuple):
    """What one level says about N pictures: scores (N, A, C), bbox (N, A, 4), kps (N, A, 2K) or None."""

    scores: np.ndarray
    bbox: np.ndarray
    kps: np.ndarray | None


class Model:
    """A session and what is known about its graph.

    Attributes:
        description: strides, anchors, classes, ...
        fixed_hw: the input height and width if the graph fixes them, else None.
        fixed_batch: likewise the number of pictures. A graph without a batch axis in its outputs takes one.
        num_cores: that several pictures may keep busy.

    Args:
        session: open.
        name: for messages.
        make_worker: opens the same file for use from several threads; None if there is no file.
        num_cores: see above.
    """

    def __init__(
        self,
        session: "onnxruntime.InferenceSession | OmSession",
        name: str = "the session",
        make_worker: "Callable[[], onnxruntime.InferenceSession] | None" = None,
        num_cores: int = 1,
    ) -> None:
        inputs, outputs = session.get_inputs(), session.get_outputs()
        described = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        try:
            description = Description.from_json(described) if described else None
        except ValueError as error:
            raise CheckpointError(
                f"{name}: its description cannot be read ({error}); export it again"
            ) from None
        description = description or guess(len(outputs), [(out.shape or [None])[-1] for out in outputs])
        if description is None or len(inputs) != 1 or len(inputs[0].shape) != 4:
            shapes = ", ".join(f"{out.name} {out.shape}" for out in outputs[:4])
            raise CheckpointError(
                f"{name} is no SCRFD detector: {len(inputs)} input(s), {len(outputs)} outputs ({shapes}, "
                "...). Expected are an (N, 3, H, W) input and 6, 9, 10 or 15 outputs (score, bbox[, kps] per "
                "stride), or a file made by tools/scrfd2onnx.py."
            )
        self.name, self.session, self.description = name, session, description
        self.make_worker, self.num_cores = make_worker, num_cores
        self.pool: ThreadPoolExecutor | None = None  # runs pictures
        self.helpers: ThreadPoolExecutor | None = None  # prepares a batch
        self.of_thread = threading.local()  # .session, in the threads of the pool
        self.input_name = inputs[0].name
        batch, _, height, width = (side if isinstance(side, int) else None for side in inputs[0].shape)
        self.fixed_hw = (height, width) if height and width else None
        has_batch_axis = description.nms is not None or len(outputs[0].shape) == 3
        self.fixed_batch = batch if has_batch_axis else 1

    @property
    def providers(self) -> list[str]:
        """Return the providers in use, best first."""
        return self.session.get_providers()

    @property
    def takes_single(self) -> bool:
        """Return whether pictures are better run one by one: on the CPU a batch only leaves the caches."""
        return self.providers[0] == CPU and self.fixed_batch in (None, 1)

    def start_pool(self) -> ThreadPoolExecutor | None:
        """Return threads that run one picture each, one thread per core; None where they are no gain.

        Several pictures keep the cores busier than one picture cut in pieces: measured on 2 cores with the
        500M model at 640 x 640, 5.2 ms per picture against 7.6 ms (7.1 ms as a batch of 16).
        """
        if self.num_cores < 2 or self.make_worker is None or not self.takes_single:
            return None
        if self.pool is None:
            to_thread = (self.of_thread, "session", self.make_worker())
            self.pool = ThreadPoolExecutor(self.num_cores, "scrfd", setattr, to_thread)
        return self.pool

    def spread(self, work: Callable[[int], T], numbers: Sequence[int]) -> Iterable[T]:
        """Return work(number) for all numbers, on all cores: an accelerator waits for the batch."""
        if len(numbers) < 2 or self.num_cores < 2:
            return map(work, numbers)
        self.helpers = self.helpers or ThreadPoolExecutor(self.num_cores, "prepare")
        return self.helpers.map(work, numbers)

    def run(self, blob: np.ndarray) -> list[np.ndarray]:
        """Return the raw outputs for (N, 3, H, W) float32.

        Raises:
            ConfigError: the graph does not take this shape.
        """
        session = getattr(self.of_thread, "session", self.session)
        try:
            return session.run(None, {self.input_name: blob})
        except Exception as error:  # onnxruntime has a class of its own for every kind of failure
            multiple = max(self.description.strides)
            raise ConfigError(
                f"{self.name} fails on an input of {blob.shape}: {_first_line(error)} "
                f"Give a height and width that are multiples of {multiple}, and what the graph fixes: "
                f"{self.session.get_inputs()[0].shape}."
            ) from None

    def levels(self, raw: Sequence[np.ndarray]) -> list[LevelOutput]:
        """Sort the raw outputs of a graph without NMS by level, adding the batch axis where there is none."""
        batched = [out if out.ndim == 3 else out[None] for out in raw]
        num = len(self.description.strides)
        has_kps = len(batched) > 2 * num
        return [
            LevelOutput(batched[i], batched[i + num], batched[i + 2 * num] if has_kps else None)
            for i in range(num)
        ]


def open_model(
    path: str | Path, provider: str | Sequence[str] = "auto", threads: int = 0, device_id: int = 0
) -> Model:
    """Open an ONNX file, or an OM file on an Ascend chip.

    Args:
        path: the file.
        provider: "auto" (what this onnxruntime offers, in its own order, the CPU last), or a name such as
            "cpu" or "CPUExecutionProvider", or several. An OM file takes "auto" or "om".
        threads: cores to use on the CPU; 0: all this process may use.
        device_id: of an accelerator.

    Raises:
        CheckpointError: no such file, not an ONNX file, or no SCRFD detector.
        ConfigError: threads or device_id is negative.
        DeviceError: a provider asked for by name is missing or cannot start.
    """
    check_count("threads", threads)
    check_count("device_id", device_id)
    if provider == OM or Path(path).suffix == f".{OM}":
        return _open_om(path, provider, device_id)
    ort = import_onnxruntime()
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file")
    num_cores = threads or count_cores()
    wanted = find_providers(provider)
    # Only the device that is not the default one needs an option, and only accelerators know it.
    with_options: list[Any] = list(wanted)
    if device_id and wanted[0] != CPU:
        with_options[0] = (wanted[0], {"device_id": str(device_id)})

    def open_session(num_threads: int, providers: list[Any]) -> "onnxruntime.InferenceSession":
        options = ort.SessionOptions()
        options.log_severity_level = 4  # fatal; errors are raised, too, and warnings speak of graph internals
        options.intra_op_num_threads = num_threads
        return ort.InferenceSession(str(path), sess_options=options, providers=providers)

    try:
        session = open_session(num_cores, with_options)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be opened as an ONNX model: {_first_line(error)}") from None
    in_use = session.get_providers()
    if provider != "auto" and wanted[0] not in in_use:
        raise DeviceError(
            f"provider {wanted[0]} is part of this onnxruntime but did not start (its libraries or "
            f"the device are missing); in use would be {', '.join(in_use)}. Available: "
            f"{', '.join(ort.get_available_providers())}."
        )
    return Model(session, str(path), lambda: open_session(1, [CPU]), num_cores)


def _open_om(path: str | Path, provider: str | Sequence[str], device_id: int) -> Model:
    if Path(path).suffix != f".{OM}" or provider not in ("auto", OM):
        raise ConfigError(f"provider {OM} runs OM files, not {path}; and an OM file needs it, not {provider}")
    from mmdet.deploy.runtime.om_session import OmSession

    return Model(OmSession(path, device_id), str(path), num_cores=count_cores())


def count_cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux; a container may allow fewer than there are
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def import_onnxruntime() -> Any:
    """Return the module, or say how to get it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(f"onnxruntime cannot be imported ({error}); pip install onnxruntime") from None
    return onnxruntime


def find_providers(provider: str | Sequence[str]) -> list[str]:
    """Return onnxruntime's names of the providers asked for, short ones spelled out.

    Raises:
        DeviceError: not part of this build of onnxruntime.
        ConfigError: no build has a provider of this name.
    """
    ort = import_onnxruntime()
    available = ort.get_available_providers()
    if provider == "auto":
        return [name for name in available if name != REMOTE]
    known = {_short(name): name for name in ort.get_all_providers()}
    chosen = []
    for name in [provider] if isinstance(provider, str) else provider:
        if _short(name) not in known:
            raise ConfigError(unknown_name("provider", name, ["auto", *known]))
        full = known[_short(name)]
        if full not in available:
            raise DeviceError(
                f"provider {name!r} is not part of this onnxruntime {ort.__version__}; available: "
                f"{', '.join(map(_short, available))}. Another package of onnxruntime brings it "
                "(see docs/deploy.md)."
            )
        chosen.append(full)
    return chosen


def _short(name: str) -> str:
    """Return "cpu" for "CPUExecutionProvider"."""
    return name.lower().removesuffix(SUFFIX.lower())


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if lines[0].endswith(".") else f"{lines[0]}."
