"""What this process has taken of the machine's memory, and what it may still take."""

import os
import re
import sys
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def peak_memory() -> int:
    """The most memory that this process has had resident so far, in bytes; 0 if unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory_limit() -> int | None:
    """The most memory that this process can have, in bytes; None if that cannot be known.

    What is free now and what it holds already; less if a container allows less.
    """
    limits = []
    free = _field(Path("/proc/meminfo"), "MemAvailable")
    held = _field(Path("/proc/self/status"), "VmRSS")
    if free is not None and held is not None:
        limits.append(free + held)
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (_CGROUP / name).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            limits.append(int(text))
    return min(limits, default=None)


def _field(path: Path, name: str) -> int | None:
    """A line like `MemAvailable:  123 kB`, in bytes."""
    try:
        found = re.search(rf"^{name}:\s*(\d+) kB", path.read_text(), re.M)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
