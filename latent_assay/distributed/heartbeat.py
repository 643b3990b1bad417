"""Who is alive: every rank writes a line about itself, again and again, where all can read it."""

import json
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import distributed


@dataclass(frozen=True, kw_only=True)
class Sign:
    """What a rank says of itself."""

    beat: int = 0
    """Counts up for as long as the process lives."""
    exchanges: int = 0
    """Exchanges that it has begun."""
    place: int = 0
    """Meetings that it has come to."""
    process: int = field(default_factory=os.getpid)
    """Its process."""
    host: str = field(default_factory=socket.gethostname)
    """Its machine."""
    left: bool = False
    """Whether it has ended."""
    farewell: str | None = None
    """Why, if not because its work was done."""
    blames: tuple[int, ...] = ()
    """The ranks that it lost, if that is why."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Who was lost, and how."""

    ranks: tuple[int, ...]
    """The ranks."""
    how: str
    """A sentence about the first of them, without its name."""


class Heartbeat:
    """Publishes this rank's sign and watches those of the others, in a thread of its own.

    The thread alone talks to the store, so that nobody waits for a store that has gone.

    **Arguments:**
    - `store`: where signs are kept.
    - `rank`, `number`: this rank, of how many.
    - `interval`: seconds between two beats.
    """

    def __init__(self, store: distributed.Store, *, rank: int, number: int, interval: float):
        self._store = store
        self.rank = rank
        self.number = number
        self.interval = interval
        self.mine = Sign()
        self._seen: dict[int, tuple[Sign, float]] = {}
        self._looked = time.monotonic()
        self._wake = threading.Event()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._publish()

    def start(self) -> None:
        """Begin, once every rank has published its first sign."""
        self._look()
        self._thread.start()

    def change(self, **content: Any) -> None:
        """Change what this rank says of itself."""
        self.mine = replace(self.mine, **content)

    def begin_exchange(self) -> None:
        """Note that an exchange begins."""
        self.mine = replace(self.mine, exchanges=self.mine.exchanges + 1)

    def meet(self, silence: float) -> Verdict | None:
        """Wait, for as long as it takes, until every rank has come; the one that never will.

        **Arguments:**
        - `silence`: seconds without a sign after which a rank is given up.
        """
        self.change(place=self.mine.place + 1)
        self._wake.set()
        while True:
            now = time.monotonic()
            # this rank too: it may go only once its own coming has been published
            seen = list(self._seen.items())
            late = [rank for rank, (sign, _) in seen if sign.place < self.mine.place]
            if not late:
                return None
            ended = self._ended(among=late)
            if ended is not None:
                return ended
            silent = [rank for rank in late if now - self._seen[rank][1] > silence]
            if now - self._looked > silence:
                return _unreachable()
            if silent:
                return Verdict(ranks=tuple(silent), how=self._silence(silent[0]))
            time.sleep(min(self.interval / 2, 0.1))

    def diagnose(self, waited: float) -> Verdict | None:
        """After an exchange has failed: who was lost; None if all are well.

        **Arguments:**
        - `waited`: how long an exchange waits for a rank.
        """
        # What a rank said before it was lost may be read only now; so only signs that are new after
        # a second look, which surely began after the exchange had failed, tell that it lives.
        looks = [time.monotonic()]
        enough = looks[0] + 5 * self.interval
        while time.monotonic() < enough:
            self._wake.set()
            ended = self._ended(among=range(self.number))
            if ended is not None:
                return ended
            time.sleep(self.interval / 4)
            if len(looks) < 3 and self._looked > looks[-1]:
                looks.append(self._looked)
                enough = looks[-1] + 5 * self.interval
        if len(looks) < 3:
            return _unreachable()
        silent = [rank for rank, (_, last) in self._others() if last <= looks[-1]]
        if silent:
            return Verdict(ranks=tuple(silent), how=self._silence(silent[0]))
        behind = [
            rank for rank, (sign, _) in self._others() if sign.exchanges < self.mine.exchanges
        ]
        if behind:
            how = (
                f"{self._whereabouts(behind[0])} is alive but did not come to an exchange within "
                f"{waited:g} s: it hangs in its own work, such as reading data."
            )
            return Verdict(ranks=tuple(behind), how=how)
        return None

    def close(self, *, linger: float) -> None:
        """Publish the last sign and stop.

        **Arguments:**
        - `linger`: seconds to stay, so that others can read it where the store ends with us.
        """
        self._end.set()
        self._wake.set()
        self._thread.join(timeout=2.0 + self.interval)
        if linger:
            time.sleep(linger)

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._end.is_set():
            self._wake.wait(self.interval)
            self._wake.clear()
            try:
                self._publish()
                self._look()
            except (RuntimeError, ValueError):
                return  # the store has gone; `_looked` grows old and tells

    def _publish(self) -> None:
        self.mine = replace(self.mine, beat=self.mine.beat + 1)
        self._store.set(str(self.rank), json.dumps(asdict(self.mine)))

    def _look(self) -> None:
        found = self._store.multi_get([str(rank) for rank in range(self.number)])
        now = time.monotonic()
        for rank, text in enumerate(found):
            content = json.loads(text)
            sign = Sign(**content | {"blames": tuple(content["blames"])})
            if rank not in self._seen or self._seen[rank][0] != sign:
                self._seen[rank] = (sign, now)
        self._looked = now

    # --- what the signs say ---------------------------------------------------------------------

    def _others(self) -> list[tuple[int, tuple[Sign, float]]]:
        return [(rank, each) for rank, each in sorted(self._seen.items()) if rank != self.rank]

    def _ended(self, *, among: Any) -> Verdict | None:
        """The rank that ended of itself; not one that ended because it lost another."""
        for _, (sign, _) in self._others():
            if sign.blames and self.rank not in sign.blames:
                return Verdict(ranks=sign.blames, how=sign.farewell or "was lost.")
        for rank, (sign, _) in self._others():
            if rank in among and sign.left and not sign.blames:
                why = f"ended with: {sign.farewell}" if sign.farewell else "ended before the others"
                return Verdict(ranks=(rank,), how=f"{self._whereabouts(rank)} {why}.")
        return None

    def _whereabouts(self, rank: int) -> str:
        sign = self._seen[rank][0]
        return f"(process {sign.process} on {sign.host})"

    def _silence(self, rank: int) -> str:
        return (
            f"{self._whereabouts(rank)} gives no sign of life: it was killed or stopped, or its "
            "machine failed."
        )


def _unreachable() -> Verdict:
    return Verdict(
        ranks=(0,),
        how=(
            "or the process that launched it cannot be reached: the store that all ranks meet at "
            "gives no answer."
        ),
    )
