"""Amounts of memory and time in words."""


def size_in_words(n: int) -> str:
    """A number of bytes in three digits.

    >>> size_in_words(1_234_567)
    '1.23 MB'
    """
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n >= size:
            return f"{n / size:.3g} {unit}" if n < 999.5 * size else f"{n / size:.0f} {unit}"
    return f"{n} B"


def time_in_words(seconds: float) -> str:
    """A time span.

    >>> time_in_words(7_500.0)
    '2.1 h'
    """
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.3g} s"
