"""What a training run asks of its process: a number of threads, and a Ctrl-C that waits."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# Below this many multiplications in an encoder product, a second thread wakes up too late.
_SMALL = 2**21


def choose_threads(multiplications: int) -> None:
    """One thread for small SAEs, whose operations are over before a second thread has woken up.

    **Arguments:**
    - `multiplications`: in one product of a batch with the encoder, all members together.
    """
    if multiplications < _SMALL:
        torch.set_num_threads(1)


@contextmanager
def restored_threads() -> Iterator[None]:
    """Leave the number of threads as it was."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


@contextmanager
def deferred_interrupt(*, also_terminate: bool = False) -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a flag, so that the step at hand ends; the second interrupts.

    **Arguments:**
    - `also_terminate`: treat SIGTERM likewise. A launcher sends it to all processes when one has
      died; they must live on for long enough to say which.
    """
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested
        return

    def handle(number: int, frame: Any) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()

    numbers = [signal.SIGINT, signal.SIGTERM] if also_terminate else [signal.SIGINT]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
