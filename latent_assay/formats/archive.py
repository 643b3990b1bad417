"""Zip archives from anyone, read member by member into memory and never unpacked to the disk.

A member is read only if the whole archive stays within a bound that grows with the size of the
file: one of a megabyte that promises a terabyte is refused by its table of contents.
"""

import zipfile
from pathlib import Path

from latent_assay.errors import FormatError
from latent_assay.formats.files import damage, regular

MAGIC = b"PK\x03\x04"
MEMBERS = 10_000
"""The largest number of members."""
FREE = 64 * 2**20
"""Bytes that an archive of any size may unpack to."""
RATIO = 20
"""How many times its own size a larger one may unpack to."""


class Archive:
    """The members of a zip archive by name, each read on request.

    **Arguments:**
    - `path`: the file.
    - `kind`: what it is expected to be, for messages.

    **Raises:** `FormatError` if it is no archive, or unpacks to too much.
    """

    def __init__(self, path: Path, kind: str):
        self.path, self.kind = path, kind
        size = regular(path)
        with damage(path, kind):
            with path.open("rb") as file:
                if file.read(4) != MAGIC:
                    raise FormatError(
                        f"'{path}' is missing, truncated or corrupted (it does not begin as one "
                        f"does); expected {kind}. Copy it anew from where it came."
                    )
            with zipfile.ZipFile(path) as opened:
                found = opened.infolist()
        total = sum(info.file_size for info in found)
        if total > max(FREE, RATIO * size) or len(found) > MEMBERS:
            raise FormatError(
                f"'{path}' has {size:,} bytes but unpacks to {total:,} in {len(found):,} members; "
                f"expected {kind}, which holds numbers that hardly compress. It is damaged, or "
                "made to fill your memory."
            )
        self.sizes = {info.filename: info.file_size for info in found}
        for info in found:
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise FormatError(
                    f"'{path}' is missing, truncated or corrupted (compressed by an unknown "
                    f"method); expected {kind}. Copy it anew from where it came."
                )

    def read(self, name: str, most: int | None = None) -> bytearray:
        """The content of a member, or its first `most` bytes."""
        with (
            damage(self.path, self.kind),
            zipfile.ZipFile(self.path) as opened,
            opened.open(name) as member,
        ):
            wanted = self.sizes[name] if most is None else min(most, self.sizes[name])
            content = bytearray(wanted)
            filled = 0
            while filled < wanted:
                piece = member.read(min(wanted - filled, 2**24))
                if not piece:
                    raise EOFError(f"`{name}` ends early")
                content[filled : filled + len(piece)] = piece
                filled += len(piece)
            return content
