"""Files made to do harm: sizes that lie, archives that burst, names that point elsewhere."""

import io
import json
import struct
import time
import zipfile

import numpy as np
import pytest

from latent_assay.errors import FormatError
from latent_assay.formats import convert, load
from latent_assay.formats.files import JSON_BYTES

from .foreign import D, W, dictionary_learning, gemma_scope, sae_lens, weights


@pytest.fixture(autouse=True)
def soon():
    """Nothing here may take long, as it would if it allocated what files promise."""
    start = time.process_time()
    yield
    assert time.process_time() - start < 5


def header(entries: dict[str, object], body: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 10**9) + b"{}",
        header({"W_enc": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}}),
        header({"W_enc": {"dtype": "F32", "shape": [2**63, 2**63], "data_offsets": [0, 0]}}),
        header({"W_enc": {"dtype": "F32", "shape": [D, W], "data_offsets": [0, 8]}}, bytes(8)),
        header({"W_enc": {"dtype": "F32", "shape": [-1, W], "data_offsets": [0, 8]}}, bytes(8)),
        header({"W_enc": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
        header({"../../x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
        b"[" * 10**6,
    ],
)
def test_safetensors_that_lie(content, tmp_path):
    folder = sae_lens(tmp_path / "sae", weights(), architecture="standard")
    (folder / "sae_weights.safetensors").write_bytes(content)
    with pytest.raises(FormatError, match=r"sae_weights\.safetensors"):
        load(folder)


@pytest.mark.parametrize("size", [2**31, 2**62, 10**30, -1, 0])
def test_sizes_in_the_configuration_that_lie(size, tmp_path):
    folder = sae_lens(tmp_path / "sae", weights(), architecture="standard", d_in=size, d_sae=size)
    with pytest.raises(FormatError, match="which asks for"):
        load(folder)


def array(shape: object, descr: object = "<f4", body: bytes = b"", version=(1, 0)) -> bytes:
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    text = text.ljust(118) + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + body


@pytest.mark.parametrize(
    "content",
    [
        array((2**40, 2**20)),
        array((10**30,)),
        array((-1, -4), body=bytes(16)),
        array((4,), body=bytes(8)),
        array((4,), body=bytes(32)),
        array((True,), body=bytes(4)),
        array((4,), "|O", bytes(32)),
        array((1,), "|V1000000000"),
        array((1,), [("a", "<f4")], bytes(4)),
        array((4,), "<f16", bytes(64)),
        array(["x"]),
        array("__import__('os').system('true')"),
        array((4,), version=(9, 9)),
        b"\x93NUMPY" + b"\xff" * 200,
        b"",
    ],
)
def test_arrays_that_lie(content, tmp_path):
    folder, _ = gemma_scope(tmp_path / "sae")
    with zipfile.ZipFile(folder / "params.npz", "a") as file:
        file.writestr("extra.npy", content)
    with pytest.raises(FormatError, match=r"params\.npz"):
        load(folder)


@pytest.mark.parametrize("name", ["params.npz", "ae.pt"])
def test_archives_that_burst(name, tmp_path):
    """A megabyte that unpacks to a gigabyte is refused by its table of contents."""
    with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(8):
            with file.open(f"x/data/{number}", "w", force_zip64=True) as member:
                for _ in range(4):
                    member.write(bytes(2**24))
    assert (tmp_path / name).stat().st_size < 2**21
    with pytest.raises(FormatError, match=r"unpacks to 536,870,912.*made to fill your memory"):
        load(tmp_path / name)


def test_an_archive_that_promises_little_and_holds_much(tmp_path):
    """The size in the table of contents is what is read, whatever follows."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("W_enc.npy", array((2**22,), body=bytes(2**24)))
    data = bytearray(buffer.getvalue())
    for magic, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.index(magic) + at
        data[place : place + 4] = struct.pack("<I", 128)
    (tmp_path / "params.npz").write_bytes(bytes(data))
    with pytest.raises(FormatError, match=r"params\.npz"):
        load(tmp_path)


def test_archives_with_too_many_members_and_odd_methods(tmp_path):
    with zipfile.ZipFile(tmp_path / "params.npz", "w") as file:
        for number in range(10_001):
            file.writestr(f"{number}", b"")
    with pytest.raises(FormatError, match="in 10,001 members"):
        load(tmp_path)
    with zipfile.ZipFile(tmp_path / "params.npz", "w", zipfile.ZIP_LZMA) as file:
        file.writestr("W_enc.npy", array((4,), body=bytes(16)))
    with pytest.raises(FormatError, match="compressed by an unknown method"):
        load(tmp_path)


@pytest.mark.parametrize(
    "name", ["../outside.npy", "/tmp/outside.npy", "..\\outside.npy", "a\0.npy"]
)
def test_names_that_point_elsewhere_are_only_names(name, tmp_path):
    folder, _ = gemma_scope(tmp_path / "inner" / "sae")
    before = sorted(tmp_path.rglob("*"))
    with zipfile.ZipFile(folder / "params.npz", "a") as file:
        info = zipfile.ZipInfo("x")
        info.filename = name
        buffer = io.BytesIO()
        np.save(buffer, np.zeros(3))
        file.writestr(info, buffer.getvalue())
    assert load(folder).width == W
    convert(folder, tmp_path / "target")
    assert sorted(path for path in tmp_path.rglob("*") if "target" not in path.parts) == before


def test_configurations_that_are_too_large_or_too_deep(tmp_path):
    folder = sae_lens(tmp_path / "sae", weights(), architecture="standard")
    (folder / "cfg.json").write_bytes(b" " * (JSON_BYTES + 1))
    with pytest.raises(FormatError, match="a configuration has at most 16,777,216"):
        load(folder)
    (folder / "cfg.json").write_text('{"a": ' + "[" * 70 + "]" * 70 + "}")
    with pytest.raises(FormatError, match="nested more than 64 levels deep"):
        load(folder)
    (folder / "cfg.json").write_text('{"a": ' + "9" * 5000 + "}")
    with pytest.raises(FormatError, match="cannot be read as JSON"):
        load(folder)


def test_a_configuration_of_strangers_in_messages_is_cut_short(tmp_path):
    folder = sae_lens(tmp_path / "sae", weights(), architecture="x" * 10_000)
    with pytest.raises(FormatError) as error:
        load(folder)
    assert len(str(error.value)) < 1000
    folder, _ = dictionary_learning(tmp_path / "dl", "AutoEncoder", dict_class="\x1b[2J" * 999)
    with pytest.raises(FormatError) as error:
        load(folder)
    assert "\x1b" not in str(error.value)
    assert len(str(error.value)) < 1000
