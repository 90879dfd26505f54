import os
import signal

import pytest

from mmdet.engine import signals
from mmdet.engine.signals import StopSignal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_wish(number, monkeypatch):
    ends: list[int] = []
    before = signal.signal(number, lambda received, _: ends.append(received))
    try:
        with StopSignal() as stop:
            assert not stop.is_agreed(1)
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)  # its echo: a killed parent's threads end one after the other
            assert stop.is_agreed(2) and stop.name == number.name and not ends
            monkeypatch.setattr(signals, "ECHO_S", 0.0)
            os.kill(os.getpid(), number)  # a second one ends the process as usual
            assert ends == [number]
        os.kill(os.getpid(), number)
        assert ends == [number, number]
    finally:
        signal.signal(number, before)


def test_without_a_signal_everything_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_several_ranks_ask_each_other_at_the_same_iterations(monkeypatch):
    asked = []

    def any_across_ranks(flag):
        asked.append(flag)
        return True  # the other rank got the signal

    monkeypatch.setattr(signals, "world_size", lambda: 2)
    monkeypatch.setattr(signals, "any_across_ranks", any_across_ranks)
    with StopSignal(every=10) as stop:
        assert [i for i in range(1, 25) if stop.is_agreed(i)] == [10, 20]
        assert asked == [False, False] and stop.name == "a signal to another rank"
