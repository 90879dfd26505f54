"""The bar: on a terminal only, with lines of the log above it."""

import io
import logging
import sys
from types import SimpleNamespace

import pytest

from mmdet.engine.logger import RunLog
from mmdet.engine.progress_hook import ProgressHook


class Terminal(io.StringIO):
    def isatty(self):
        return True


def train(hook):
    trainer = SimpleNamespace(
        iter=0, facts=SimpleNamespace(total_iters=4, iters_per_epoch=2), epoch_losses={"loss_cls": 0.25}
    )
    hook.before_train(trainer)
    for trainer.iter in range(1, 5):
        hook.after_iter(trainer, {})
        logging.getLogger("mmdet").info("line %d", trainer.iter)
    hook.after_train(trainer)


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_a_bar_on_a_terminal_only(monkeypatch, kind):
    screen = kind()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdout", screen)
    log = RunLog()
    train(ProgressHook())
    log.close()
    text = screen.getvalue()
    if kind is io.StringIO:
        assert [line.split(" - ")[-1] for line in text.splitlines()] == [f"line {i}" for i in range(1, 5)]
        return
    assert "epoch 2: 100%" in text and "cls=0.250" in text
    for i in range(1, 5):  # the bar is wiped before a line, and no line is torn
        before = text[: text.index(f"INFO - line {i}\n")].rpartition("\r")[2]
        assert before.endswith(" - mmdet - ") and "epoch" not in before
    assert text.endswith("\r")
