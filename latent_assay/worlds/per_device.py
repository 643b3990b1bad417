"""Constants of a law, copied once to every device that asks for them."""

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Any, TypeVar

T = TypeVar("T")


class PerDevice:
    """Mix-in of the immutable laws: remembers what was built for a device and dtype.

    A law is described by numbers and drawn with tensors. The tensors are built on the first draw
    and kept, so that drawing a batch copies nothing and factorises nothing.
    """

    @cached_property
    def _copies(self) -> dict[Hashable, Any]:
        return {}

    def _once(self, key: Hashable, build: Callable[[], T]) -> T:
        """What `build` returned when `key` was first asked for."""
        try:
            return self._copies[key]
        except KeyError:
            return self._copies.setdefault(key, build())
