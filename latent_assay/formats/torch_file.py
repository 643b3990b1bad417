"""Tensors in what `torch.save` wrote, without unpickling.

Such a file is a zip archive: raw numbers in `data/0`, `data/1` …, and `data.pkl`, a program for
Python's pickle machine that says how they become tensors. The program is not run. It is read
instruction by instruction, and the few that build a dictionary of tensors are understood; a call
to anything but torch's own way of rebuilding a tensor is refused. (`torch.load` with
`weights_only=True` calls no foreign code either, but trusts the program with the sizes of tensors.)
"""

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latent_assay.errors import FormatError
from latent_assay.formats.archive import Archive
from latent_assay.formats.files import damage, shown
from latent_assay.formats.stored import Stored

KIND = "a dictionary of tensors that `torch.save` wrote"
PROGRAM_BYTES = 2**20
"""The longest program that is read."""

_STORAGES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "BoolStorage": torch.bool,
}
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """A class or function that the program names."""

    text: str


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: torch.dtype


@dataclass(frozen=True)
class _View:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def torch_file(path: Path) -> dict[str, Stored]:
    """The tensors in a saved dictionary, by name, none of them read yet.

    **Raises:** `FormatError` for anything else that pickle could hold.
    """
    archive = Archive(path, KIND)
    programs = [name for name in archive.sizes if name.split("/")[1:] == ["data.pkl"]]
    with damage(path, KIND):
        if len(programs) != 1 or archive.sizes[programs[0]] > PROGRAM_BYTES:
            raise ValueError("no data.pkl, or one too large")
        root = programs[0].removesuffix("data.pkl")
        order = (
            bytes(archive.read(f"{root}byteorder")) if f"{root}byteorder" in archive.sizes else b""
        )
        if order not in (b"", b"little"):
            raise ValueError("numbers in big-endian order")
        program = bytes(archive.read(programs[0]))
        with warnings.catch_warnings(action="ignore"):  # about texts with odd escapes in them
            content = _run(program)
    if not isinstance(content, dict):
        raise FormatError(
            f"'{path}' holds {type(content).__name__.strip('_')}; expected {KIND}. Save the SAE's "
            "`state_dict()`, not the SAE itself."
        )
    return {
        str(name): _stored(archive, root, view)
        for name, view in content.items()
        if isinstance(view, _View)
    }


def _stored(archive: Archive, root: str, view: _View) -> Stored:
    member = f"{root}data/{view.storage.key}"
    with damage(archive.path, KIND):
        item = view.storage.dtype.itemsize
        count, rest = divmod(archive.sizes[member], item)
        if rest or view.offset < 0 or not len(view.shape) == len(view.stride) <= 4:
            raise ValueError("a tensor that does not fit its numbers")
        if any(size < 0 for size in view.shape) or any(step < 0 for step in view.stride):
            raise ValueError("a tensor with negative sizes")
        last = view.offset + sum(
            (size - 1) * step for size, step in zip(view.shape, view.stride, strict=True)
        )
        elements = 1
        for size in view.shape:
            elements *= size
        # `elements > count` would be a broadcast: a tensor larger than what the file holds
        if elements and (last >= count or elements > count):
            raise ValueError("a tensor that reaches beyond its numbers")

    def read() -> Tensor:
        content = archive.read(member)
        with damage(archive.path, KIND):
            flat = torch.frombuffer(content, dtype=view.storage.dtype)
            return flat.as_strided(view.shape, view.stride, view.offset).clone()

    name = str(view.storage.dtype).removeprefix("torch.")
    return Stored(shape=view.shape, dtype=name, read=read)


def _run(program: bytes) -> object:
    """What a pickle program would leave behind, with tensors as `_View`."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for code, argument, _ in pickletools.genops(program):
        if code.name == "STOP":
            return stack.pop()
        if (step := _STEPS.get(code.name)) is None:
            raise ValueError(f"the instruction {code.name}, which no dictionary of tensors needs")
        step(stack, memo, argument)
    raise ValueError("a program without an end")


def _to_mark(stack: list[Any]) -> list[Any]:
    items: list[Any] = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    return items[::-1]


def _set_items(stack: list[Any], items: list[Any]) -> None:
    target = stack[-1]
    if not isinstance(target, dict):
        raise TypeError("items set in what is no dictionary")
    if not all(isinstance(name, str) for name in items[::2]):
        raise TypeError("a name that is no text")
    target.update(zip(items[::2], items[1::2], strict=True))


def _call(stack: list[Any]) -> None:
    arguments, function = stack.pop(), stack.pop()
    name = function.text if isinstance(function, _Name) else ""
    if name == "collections OrderedDict" and arguments == ():
        stack.append({})
    elif name == "torch._utils _rebuild_tensor_v2":
        storage, offset, shape, stride = arguments[:4]
        numbers = (offset, *shape, *stride)
        if not isinstance(storage, _Storage) or any(type(each) is not int for each in numbers):
            raise TypeError("a tensor that is none")
        stack.append(_View(storage, offset, tuple(shape), tuple(stride)))
    elif name == "torch._utils _rebuild_parameter" and isinstance(arguments[0], _View):
        stack.append(arguments[0])
    else:
        raise ValueError(f"a call of {shown(name, str) or 'nothing'}, which is never made")


def _storage(stack: list[Any]) -> None:
    kind, name, key, _device, _count = stack.pop()
    dtype = _STORAGES.get(name.text.removeprefix("torch ")) if isinstance(name, _Name) else None
    if kind != "storage" or dtype is None or not isinstance(key, str):
        raise ValueError("numbers of an unknown type")
    stack.append(_Storage(key, dtype))


def _build(stack: list[Any]) -> None:
    # attributes of the dictionary, such as the versions of the modules that it came from
    stack.pop()
    if not isinstance(stack[-1], dict):
        raise TypeError("attributes set on what is no dictionary")


def _tuple(size: int) -> Callable[[list[Any], dict[int, Any], Any], None]:
    def step(stack: list[Any], memo: dict[int, Any], argument: Any) -> None:
        if len(stack) < size:
            raise IndexError("a tuple of too little")
        items = tuple(stack[len(stack) - size :])
        del stack[len(stack) - size :]
        stack.append(items)

    return step


def _push(make: Callable[[Any], Any]) -> Callable[[list[Any], dict[int, Any], Any], None]:
    return lambda stack, memo, argument: stack.append(make(argument))


def _ignore(stack: list[Any], memo: dict[int, Any], argument: Any) -> None:
    pass


_put = lambda stack, memo, at: memo.__setitem__(at, stack[-1])  # noqa: E731
_get = lambda stack, memo, at: stack.append(memo[at])  # noqa: E731
_value = _push(lambda argument: argument)

_STEPS: dict[str, Callable[[list[Any], dict[int, Any], Any], Any]] = {
    "PROTO": _ignore,
    "FRAME": _ignore,
    "MARK": _push(lambda _: _MARK),
    "EMPTY_DICT": _push(lambda _: {}),
    "EMPTY_TUPLE": _push(lambda _: ()),
    "EMPTY_LIST": _push(lambda _: []),
    "NONE": _push(lambda _: None),
    "NEWTRUE": _push(lambda _: True),
    "NEWFALSE": _push(lambda _: False),
    "GLOBAL": _push(lambda argument: _Name(argument)),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINFLOAT"), _value),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1"), _value),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _get),
    "MEMOIZE": lambda stack, memo, _: memo.__setitem__(len(memo), stack[-1]),
    "STACK_GLOBAL": lambda stack, memo, _: stack.append(
        _Name(" ".join(map(str, reversed((stack.pop(), stack.pop())))))
    ),
    "TUPLE": lambda stack, memo, _: stack.append(tuple(_to_mark(stack))),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "SETITEM": lambda stack, memo, _: _set_items(stack, [stack.pop(), stack.pop()][::-1]),
    "SETITEMS": lambda stack, memo, _: _set_items(stack, _to_mark(stack)),
    "BINPERSID": lambda stack, memo, _: _storage(stack),
    "REDUCE": lambda stack, memo, _: _call(stack),
    "BUILD": lambda stack, memo, _: _build(stack),
}
