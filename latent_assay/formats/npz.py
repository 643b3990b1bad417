"""Arrays in numpy's `.npz`, without numpy's loader: no pickles, no header that is believed."""

import math
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latent_assay.errors import FormatError
from latent_assay.formats.archive import Archive
from latent_assay.formats.files import damage, shown
from latent_assay.formats.stored import Stored

KIND = "numpy's .npz"
_HEAD = 4096  # a header of a plain array is shorter by far
# the one form that numpy writes; its own reader would evaluate whatever stands there
_LAYOUT = re.compile(
    rb"\x93NUMPY(?:(?P<version>\x01)\x00..|\x02\x00....)"
    rb"\{'descr': '(?P<type>[<>|][fiu][1248])', 'fortran_order': (?P<order>True|False), "
    rb"'shape': \((?P<shape>(?:\d{1,15}, ?){0,3}\d{0,15})\), ?\}",
    re.DOTALL,
)
_TYPE = re.compile(rb"'descr': '([ -~]{1,20}?)'")


def npz(path: Path) -> dict[str, Stored]:
    """The arrays in an npz file, by name, none of them read yet.

    **Raises:** `FormatError` for objects, text or structures, which would need unpickling or are no
    weights, and for a header that does not fit what follows it.
    """
    archive = Archive(path, KIND)
    return {
        name.removesuffix(".npy"): _array(archive, name)
        for name in archive.sizes
        if name.endswith(".npy")
    }


def _array(archive: Archive, name: str) -> Stored:
    shown_name = shown(name, str)
    head = bytes(archive.read(name, _HEAD))
    if (layout := _LAYOUT.match(head)) is None:
        found = _TYPE.search(head)
        holds = shown(found[1].decode("ascii")) if found else "no header that numpy writes"
        raise FormatError(
            f"`{shown_name}` in '{archive.path}' holds {holds}; expected plain numbers. Objects "
            "would have to be unpickled, which runs code from the file and is never done."
        )
    dtype = np.dtype(layout["type"].decode())
    shape = tuple(int(size) for size in layout["shape"].replace(b",", b" ").split())
    # the length that precedes the header may promise more than the header, or less
    size_of_length = 2 if layout["version"] == b"\x01" else 4
    start = 8 + size_of_length + int.from_bytes(head[8 : 8 + size_of_length], "little")
    expected = start + math.prod(shape) * dtype.itemsize
    if layout.end() > start or expected != archive.sizes[name]:
        raise FormatError(
            f"`{shown_name}` in '{archive.path}' says that it has shape {shown(shape)}, which "
            f"takes {shown(expected)} bytes, but has {archive.sizes[name]:,}; the file is damaged. "
            "Copy it anew."
        )
    fortran = layout["order"] == b"True"

    def read() -> Tensor:
        content = archive.read(name)
        with damage(archive.path, KIND):
            flat = np.frombuffer(content, dtype=dtype, offset=start)
            native = flat.astype(dtype.newbyteorder("="), copy=False)
            array = native.reshape(shape, order="F" if fortran else "C")
            return torch.from_numpy(np.ascontiguousarray(array))

    return Stored(shape=shape, dtype=dtype.name, read=read)
