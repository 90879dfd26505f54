"""An ONNX file opened with onnxruntime: what goes in, what comes out, on which provider."""

import ctypes
import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from mmdet.deploy.runtime.call_limit import limit_call
from mmdet.deploy.runtime.checks import check_count
from mmdet.deploy.runtime.coders import make_decoder
from mmdet.deploy.runtime.description import METADATA_KEY, Description, guess
from mmdet.deploy.runtime.join import joined_content
from mmdet.deploy.runtime.limits import check_input_shape
from mmdet.deploy.runtime.opening import check_opening
from mmdet.errors import CheckpointError, ConfigError, DeviceError, unknown_name
from mmdet.files import recognise

if TYPE_CHECKING:
    import onnxruntime

    from mmdet.deploy.runtime.om_session import OmSession

logger = logging.getLogger("mmdet")

SUFFIX = "ExecutionProvider"
CPU = f"CPU{SUFFIX}"
T = TypeVar("T")
OM = "om"
MAX_THREADS = 1024  # onnxruntime starts as many as it is told
SLACK = 1e-3  # of a probability in half precision
INPUT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
REMOTE = f"Azure{SUFFIX}"  # in every build; sends the image to a service, so never chosen by "auto"


class LevelOutput(NamedTuple):
    """What one level says about N images: scores (N, A, C), bbox (N, A, 4), kps (N, A, 2K) or None."""

    scores: np.ndarray
    bbox: np.ndarray
    kps: np.ndarray | None


@dataclass(frozen=True)
class Source:
    """How a session is opened, so that another thread or process can open it, too.

    Attributes:
        path: of the ONNX file.
        providers: onnxruntime's names, the first one perhaps with options.
        num_cores: threads of the session.
    """

    path: str
    providers: tuple[Any, ...]
    num_cores: int

    def open(self) -> "onnxruntime.InferenceSession":
        """Return a session."""
        ort = import_onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = 4  # fatal; errors are raised, too, and warnings speak of graph internals
        options.intra_op_num_threads = self.num_cores
        # Where the CPU fails, onnxruntime would say so on stdout and try the CPU.
        others = {"enable_fallback": 0} if self.providers == (CPU,) else {}
        content = joined_content(self.path) if self.providers[0] == CPU else None
        return ort.InferenceSession(
            content or self.path, sess_options=options, providers=list(self.providers), **others
        )


class Model:
    """A session and what is known about its graph.

    Can be pickled, and used in a forked process, where it opens its file again: neither a session nor its
    threads survive a fork.

    Attributes:
        description: strides, anchors, classes, ...
        decoder: of its boxes and keypoints.
        fixed_hw: the input height and width if the graph fixes them, else None.
        fixed_batch: likewise the number of images. A graph without a batch axis in its outputs takes one.
        num_cores: that several images may keep busy.

    Args:
        session: open.
        name: for messages.
        source: how the session was opened; None if it was given open.
        num_cores: see above.

    Raises:
        CheckpointError: the graph is no face detector, or takes an input that is not understood.
    """

    def __init__(
        self,
        session: "onnxruntime.InferenceSession | OmSession",
        name: str = "the session",
        source: Source | None = None,
        num_cores: int = 1,
    ) -> None:
        inputs, outputs = session.get_inputs(), session.get_outputs()
        last_dims = [(out.shape or [None])[-1] for out in outputs]
        description = _describe(session, name) or guess(len(outputs), last_dims)
        if description is None or len(inputs) != 1 or len(inputs[0].shape) != 4:
            shapes = ", ".join(f"{out.name} {out.shape}" for out in outputs[:4])
            raise CheckpointError(
                f"{name} is no SCRFD detector: {len(inputs)} input(s), {len(outputs)} outputs ({shapes}, "
                "...). Expected are an (N, 3, H, W) input and 6, 9, 10 or 15 outputs (score, bbox[, kps] per "
                "stride), or a file made by tools/scrfd2onnx.py."
            )
        input_type = getattr(inputs[0], "type", "tensor(float)")  # an OM file has no other
        if input_type not in INPUT_TYPES:
            raise CheckpointError(
                f"{name} takes {input_type} input; expected is float or float16, normalised as described"
            )
        self.name, self.description, self.source, self.num_cores = name, description, source, num_cores
        self.decoder = make_decoder(description.coder)
        self.input_name, self.input_type = inputs[0].name, INPUT_TYPES[input_type]
        self.order = _order([out.name for out in outputs], last_dims, description)
        check_input_shape(inputs[0].shape, name)
        batch, _, height, width = (side if isinstance(side, int) else None for side in inputs[0].shape)
        self.fixed_hw = (height, width) if height and width else None
        has_batch_axis = description.nms is not None or len(outputs[0].shape) == 3
        self.fixed_batch = batch if has_batch_axis else 1
        self._start(session)

    def _start(self, session: "onnxruntime.InferenceSession | OmSession") -> None:
        """Take a session of this process; no thread runs yet."""
        self._session, self._process = session, os.getpid()
        self.pool: ThreadPoolExecutor | None = None  # runs images
        self.helpers: ThreadPoolExecutor | None = None  # prepares a batch
        self.of_thread = threading.local()  # .session, in the threads of the pool

    def __getstate__(self) -> dict[str, Any]:
        """Return all but what belongs to this process."""
        if self.source is None:
            raise TypeError(f"{self.name} was given open and cannot be copied; make the detector from a file")
        left_out = ("_session", "_process", "pool", "helpers", "of_thread")
        return {key: value for key, value in self.__dict__.items() if key not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the file again."""
        self.__dict__.update(state)
        self._start(self.source.open())  # type: ignore[union-attr]

    @property
    def session(self) -> "onnxruntime.InferenceSession | OmSession":
        """Return the session, opened again after a fork."""
        if os.getpid() != self._process:
            if self.source is None:
                raise ConfigError(f"{self.name} was opened in another process; make the detector from a file")
            # Their end would wait for threads that the fork has not copied, even when Python exits.
            for left in (self._session, self.of_thread, self.pool, self.helpers):
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(left))
            self._start(self.source.open())
        return self._session

    def use_cpu(self) -> None:
        """Run on the CPU from now on."""
        self.session.set_providers([CPU])
        self.source = self.source and replace(self.source, providers=(CPU,))

    def close(self) -> None:
        """End the threads; a later call starts them again."""
        for pool in (self.pool, self.helpers):
            if pool is not None:
                pool.shutdown()
        self.pool = self.helpers = None

    @property
    def providers(self) -> list[str]:
        """Return the providers in use, best first."""
        return self.session.get_providers()

    @property
    def takes_single(self) -> bool:
        """Return whether images are better run one by one: on the CPU a batch only leaves the caches."""
        return self.providers[0] == CPU and self.fixed_batch in (None, 1)

    def start_pool(self) -> ThreadPoolExecutor | None:
        """Return threads that run one image each, one thread per core; None where they are no gain.

        Several images keep the cores busier than one image cut in pieces: measured on 2 cores with the
        500M model at 640 x 640, 5.2 ms per image against 7.6 ms (7.1 ms as a batch of 16).
        """
        if self.num_cores < 2 or self.source is None or not self.takes_single:
            return None
        if self.pool is None:
            worker = replace(self.source, providers=(CPU,), num_cores=1)
            to_thread = (self.of_thread, "session", worker.open())
            self.pool = ThreadPoolExecutor(self.num_cores, "scrfd", setattr, to_thread)
        return self.pool

    def spread(self, work: Callable[[int], T], numbers: Sequence[int]) -> Iterable[T]:
        """Return work(number) for all numbers, on all cores: an accelerator waits for the batch."""
        if len(numbers) < 2 or self.num_cores < 2:
            return map(work, numbers)
        assert self.session  # after a fork: without the threads of the other process
        self.helpers = self.helpers or ThreadPoolExecutor(self.num_cores, "prepare")
        return self.helpers.map(work, numbers)

    def run(self, blob: np.ndarray) -> list[np.ndarray]:
        """Return the raw outputs for (N, 3, H, W) float32, in the order of `Description.output_names`.

        Raises:
            ConfigError: the graph does not take this shape.
            CheckpointError: it does not end, see call_limit.py.
        """
        session = getattr(self.of_thread, "session", None) or self.session
        feeds = {self.input_name: blob.astype(self.input_type, copy=False)}
        try:
            if self.source is None:  # given open, or an OM file
                raw = session.run(None, feeds)
            else:
                options = import_onnxruntime().RunOptions()
                with limit_call(options, self.name):
                    raw = session.run(None, feeds, options)  # type: ignore[call-arg]
        except CheckpointError:
            raise
        except Exception as error:  # onnxruntime has a class of its own for every kind of failure
            multiple = max(self.description.strides)
            raise ConfigError(
                f"{self.name} fails on an input of {blob.shape}: {_first_line(error)} "
                f"Give a height and width that are multiples of {multiple}, and what the graph fixes: "
                f"{session.get_inputs()[0].shape}."
            ) from None
        return [raw[index] for index in self.order]

    def levels(self, raw: Sequence[np.ndarray]) -> list[LevelOutput]:
        """Sort the raw outputs of a graph without NMS by level, adding the batch axis where there is none.

        Levels come from the finest to the coarsest, in whatever order the file lists them.
        """
        batched = [out if out.ndim == 3 else out[None] for out in raw]
        num = len(self.description.strides)
        kinds = [batched[first : first + num] for first in range(0, len(batched), num)]
        scores, bbox, *rest = (sorted(kind, key=lambda out: -out.shape[1]) for kind in kinds)
        kps = rest[0] if rest else [None] * num
        return [LevelOutput(*level) for level in zip(scores, bbox, kps, strict=True)]


def check_scores(scores: np.ndarray, name: str) -> None:
    """Refuse scores that are no probabilities; a comparison with nan is False, so it would find no face.

    Raises:
        CheckpointError: not finite, or outside 0..1.
    """
    low, high = (float(scores.min()), float(scores.max())) if scores.size else (0.0, 0.0)
    if -SLACK <= low and high <= 1 + SLACK:
        return
    if np.isfinite([low, high]).all():
        raise CheckpointError(
            f"{name} gives scores from {low:.3g} to {high:.3g}, not from 0 to 1: the graph lacks its "
            "sigmoid, or this is not its score output"
        )
    raise CheckpointError(
        f"{name} gives scores that are not finite: its weights are damaged, or too large for fp16; export it "
        "again and compare with --verify"
    )


def _describe(session: "onnxruntime.InferenceSession | OmSession", name: str) -> Description | None:
    """Return the description that a file carries; None if it carries none."""
    try:
        described = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        return Description.from_json(described) if described else None
    except ValueError as error:
        raise CheckpointError(f"{name}: its description cannot be read ({error}); export it again") from None


def _order(names: list[str], last_dims: Sequence[object], description: Description) -> list[int]:
    """Return where the outputs of `Description.output_names` are: by name, else by shape, else as listed."""
    wanted = description.output_names()
    if set(wanted) <= set(names):
        return [names.index(name) for name in wanted]
    sides = [len(description.classes), 4, *([2 * description.num_kps] if description.num_kps else [])]
    found = [[index for index, dim in enumerate(last_dims) if dim == side] for side in sides]
    is_clear = len(set(sides)) == len(sides) and all(len(f) == len(description.strides) for f in found)
    return sum(found, []) if is_clear else list(range(len(names)))


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
    check_count("threads", threads, highest=MAX_THREADS)
    check_count("device_id", device_id)
    if provider == OM or Path(path).suffix == f".{OM}":
        return _open_om(path, provider, device_id)
    ort = import_onnxruntime()
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file")
    wanted = find_providers(provider)
    check_opening(path)
    # Only the device that is not the default one needs an option, and only accelerators know it.
    with_options: list[Any] = list(wanted)
    if device_id and wanted[0] != CPU:
        with_options[0] = (wanted[0], {"device_id": str(device_id)})
    source = Source(str(path), tuple(with_options), threads or count_cores())
    try:
        session = source.open()
    except Exception as error:
        reason = recognise(path) or f"cannot be opened as an ONNX model: {_first_line(error)}"
        raise CheckpointError(f"{path} {reason}") from None
    in_use = session.get_providers()
    if wanted[0] not in in_use:
        message = (
            f"provider {wanted[0]} is part of this onnxruntime but did not start (its libraries or "
            f"the device are missing); in use would be {', '.join(in_use)}. Available: "
            f"{', '.join(ort.get_available_providers())}."
        )
        if provider != "auto":
            raise DeviceError(message)
        logger.warning("%s", message.replace("in use would be", "in use is"))
    return Model(session, str(path), source, source.num_cores)


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
