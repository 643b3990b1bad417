"""An iterator that runs ahead of its reader, in a thread."""

import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
_PATIENCE = 0.1


class Ahead(Iterator[T], Generic[T]):
    """Runs `make()` in a thread, at most `depth` items ahead.

    What it raises is raised where the next item would have been. The thread ends with the items,
    with `close`, or when this object is gone; it dies with its process.

    >>> list(Ahead(lambda: iter([1, 2, 3]), depth=1))
    [1, 2, 3]

    **Arguments:**
    - `make`: gives the iterator; it must not refer to this object.
    - `depth`: how many items may be ready and not taken. One more is in the making.
    """

    def __init__(self, make: Callable[[], Iterator[T]], depth: int = 1) -> None:
        self._ready: queue.Queue[tuple[str, object]] = queue.Queue(maxsize=depth)
        stop = threading.Event()
        thread = threading.Thread(
            target=_run, args=(make, self._ready, stop), name="activations", daemon=True
        )
        # also run when the interpreter ends: a thread must not be torn out of a forward pass
        self._finish = weakref.finalize(self, _finish, stop, thread)
        self._ended = False
        thread.start()

    def __next__(self) -> T:
        """The next item, waiting for it if need be."""
        if self._ended:
            raise StopIteration
        kind, item = self._ready.get()
        if kind == "item":
            return item  # type: ignore[return-value]
        self.close()
        if isinstance(item, BaseException):
            raise item
        raise StopIteration

    def close(self) -> None:
        """Stop the thread and wait until it has ended."""
        self._ended = True
        self._finish()


def _finish(stop: threading.Event, thread: threading.Thread) -> None:
    stop.set()
    if thread is not threading.current_thread():  # which may be the one that collects garbage
        thread.join()


def _run(
    make: Callable[[], Iterator[T]],
    ready: "queue.Queue[tuple[str, object]]",
    stop: threading.Event,
) -> None:
    def give(kind: str, item: object) -> bool:
        while not stop.is_set():
            try:
                ready.put((kind, item), timeout=_PATIENCE)
            except queue.Full:
                continue
            return True
        return False

    try:
        for item in make():
            if not give("item", item):
                return
            del item  # only the queue holds it now
        give("end", None)
    except BaseException as error:
        give("error", error)
