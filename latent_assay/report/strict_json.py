"""Plain JSON: no NaN, no half characters, arrays as lists or as packed bytes."""

import base64
import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latent_assay.errors import FormatError

_SURROGATE = re.compile("[\ud800-\udfff]")
_DIGITS = 6


def plain(value: Any) -> Any:
    """The same value out of dicts, lists, strings, numbers, booleans and `None` alone.

    NaN and infinities become `None`, numpy arrays lists, floats keep six significant digits,
    and half a surrogate pair, which UTF-8 cannot hold, becomes the replacement character.

    >>> plain({"a": float("nan"), "b": np.array([1.0, 1 / 3]), "c": (True, "x")})
    {'a': None, 'b': [1.0, 0.333333], 'c': [True, 'x']}
    """
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, np.bool_ | np.integer):
        return value.item()
    if isinstance(value, float | np.floating):
        number = float(value)
        return float(f"{number:.{_DIGITS}g}") if math.isfinite(number) else None
    if isinstance(value, np.ndarray):
        return _lists(value)
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [plain(item) for item in value]
    return plain(str(value))


def _lists(array: np.ndarray) -> Any:
    if array.ndim > 1:
        return [_lists(row) for row in array]
    if array.dtype.kind in "iub":
        return array.tolist()
    return [plain(item) for item in array.tolist()]


def pack(array: np.ndarray) -> dict[str, Any]:
    """An array as text: its little-endian bytes, compressed by zlib, in base64.

    The result holds `dtype` (as in `int8`), `shape`, and `zlib_base64`.
    """
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return {
        "dtype": str(array.dtype.newbyteorder("=")),
        "shape": list(array.shape),
        "zlib_base64": base64.b64encode(zlib.compress(little.tobytes(), 6)).decode("ascii"),
    }


def unpack(packed: Mapping[str, Any]) -> np.ndarray:
    """The array that `pack` was given.

    **Raises:** `FormatError` if the text is not such an array.

    >>> unpack(pack(np.array([[1, -2]], dtype=np.int8)))
    array([[ 1, -2]], dtype=int8)
    """
    try:
        content = zlib.decompress(base64.b64decode(packed["zlib_base64"], validate=True))
        dtype = np.dtype(packed["dtype"])
        if dtype.kind not in "iuf":
            raise ValueError(f"{dtype} is not a number")
        array = np.frombuffer(content, dtype.newbyteorder("<")).reshape(packed["shape"])
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise FormatError(
            "expected a packed array with `dtype`, `shape` and `zlib_base64`, but it cannot be "
            f"read ({error}). The report's JSON may have been cut short; write the report again."
        ) from error
    return array.astype(dtype)


def script_json(value: Any) -> str:
    """JSON that may stand between `<script>` tags, whatever text it holds.

    `<`, `>`, `&` and the line separators that JavaScript once disliked are written as escapes,
    which a JSON parser turns back; so no text can end the element or open a comment.

    >>> script_json({"text": "</script>"})
    '{"text":"\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
