"""How the threads of an operator wait for each other. Imports no torch: it must be said before that loads."""

import os


def let_threads_sleep() -> None:
    """Ask OpenMP's threads to sleep while they wait, instead of keeping their cores busy.

    An operator's threads meet after each of its loops. A thread that spins there keeps a core from the
    loader's workers, and from the very thread it waits for: on two busy cores a step of scrfd_500m took
    2 to 5 times as long (docs/decisions.md). OMP_WAIT_POLICY=ACTIVE in the environment wins over this.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
