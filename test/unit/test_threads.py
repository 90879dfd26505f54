"""Work on several threads: the order of the items, how many are in hand, and what nobody waits for."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mmdet.threads import in_order


def test_results_come_in_order_with_so_many_in_hand():
    taken = []

    def items():
        for number in (3, 1, None, 2):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        pairs = in_order(pool, str, items(), ahead=2)
        item, future = next(pairs)
        assert (item, future.result(), taken) == (3, "3", [3, 1])
        assert [(item, future.result()) for item, future in pairs] == [(1, "1"), (None, "None"), (2, "2")]


def test_an_error_is_the_items_and_the_rest_goes_on():
    with ThreadPoolExecutor(2) as pool:
        futures = [future for _, future in in_order(pool, lambda number: 6 // number, [0, 2], ahead=4)]
    with pytest.raises(ZeroDivisionError):
        futures[0].result()
    assert futures[1].result() == 3


def test_what_nobody_waits_for_is_not_run():
    done, gate = [], threading.Event()

    def work(number):
        gate.wait(10)
        done.append(number)

    with ThreadPoolExecutor(1) as pool:
        pairs = in_order(pool, work, range(9), ahead=4)
        next(pairs)  # item 0 runs, 1 to 3 wait
        pairs.close()
        gate.set()
    assert done == [0]
