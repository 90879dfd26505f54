"""What metrics read of `evaluation` in a config; `mmdet.config.types.EvalConfig` has it."""

from typing import Protocol


class MetricOptions(Protocol):
    """See EvalConfig for the meaning of each."""

    @property
    def metric(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def save_best(self) -> str: ...  # noqa: D102

    @property
    def gt_dir(self) -> str | None: ...  # noqa: D102

    @property
    def iou_thr(self) -> float: ...  # noqa: D102
