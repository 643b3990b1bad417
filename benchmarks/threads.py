"""How many threads serve a program best."""

from collections.abc import Callable

import torch

from benchmarks.worker import fastest


def use_best(run: Callable[[], None]) -> int:
    """Set and return the number of threads, one or all, with which `run` takes less time.

    Tiny operations are over before a second thread has woken up; whoever is measured gets the
    number that suits it.
    """
    most = torch.get_num_threads()

    def with_threads(number: int) -> Callable[[], None]:
        def go() -> None:
            torch.set_num_threads(number)
            run()

        return go

    best = int(fastest({str(number): with_threads(number) for number in {1, most}}))
    torch.set_num_threads(best)
    return best
