"""A write happens wholly or not at all, whatever goes wrong."""

import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from latent_assay import atomic
from latent_assay.atomic import new_folder, plain, recover, write_json, write_tensors, write_text
from latent_assay.errors import StorageError


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def old(tmp_path) -> Path:
    """A folder with something worth keeping."""
    with new_folder(tmp_path / "old") as draft:
        write_text(draft / "note.txt", "the old content\n")
        write_tensors(draft / "weights.safetensors", {"a": torch.arange(3)})
    return tmp_path / "old"


# ---------------------------------------------------------------- what works


def test_new_folder_appears_with_its_content(old):
    assert (old / "note.txt").read_text() == "the old content\n"
    assert torch.equal(load_file(old / "weights.safetensors")["a"], torch.arange(3))


def test_new_folder_replaces_all_of_the_old_one(old):
    with new_folder(old) as draft:
        assert list(draft.iterdir()) == []
        (draft / "inner").mkdir()
        write_json(draft / "inner" / "other.json", {"é": [1, 2.5]})
    assert set(content(old)) == {"inner/other.json"}
    assert json.loads((old / "inner" / "other.json").read_text(encoding="utf-8")) == {"é": [1, 2.5]}
    assert [each.name for each in old.parent.iterdir()] == ["old"]


def test_missing_parents_are_made(tmp_path):
    write_text(tmp_path / "a" / "b.txt", "b")
    write_tensors(tmp_path / "c" / "d.safetensors", {"x": torch.ones(1)})
    with new_folder(tmp_path / "e" / "f"):
        pass
    assert (tmp_path / "e" / "f").is_dir()
    assert set(content(tmp_path)) == {"a/b.txt", "c/d.safetensors"}


def test_tensors_that_share_storage_are_written_apart(tmp_path):
    square = torch.arange(6.0).view(2, 3).requires_grad_()
    write_tensors(tmp_path / "t.safetensors", {"a": square, "b": square.T, "c": square[0]})
    read = load_file(tmp_path / "t.safetensors")
    assert torch.equal(read["a"], square.detach())
    assert torch.equal(read["b"], square.detach().T)
    assert torch.equal(read["c"], square.detach()[0])


def test_line_ends_and_text_are_kept(tmp_path):
    write_text(tmp_path / "t.txt", "Γ → β\nline\n")
    assert (tmp_path / "t.txt").read_bytes() == "Γ → β\nline\n".encode()


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_what_the_umask_gives(tmp_path, mask):
    before = os.umask(mask)
    try:
        with new_folder(tmp_path / "f") as draft:
            write_text(draft / "t.txt", "")
            write_tensors(draft / "w.safetensors", {"a": torch.ones(1)})
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o777 & ~mask
    for name in ("t.txt", "w.safetensors"):
        assert (tmp_path / "f" / name).stat().st_mode & 0o777 == 0o666 & ~mask


def test_plain_leaves_only_what_json_has():
    value = {1: (1, 2.5, None), "a": [math.nan, math.inf, -math.inf, {"b": (True, "c")}]}
    assert plain(value) == {"1": [1, 2.5, None], "a": ["nan", "inf", "-inf", {"b": [True, "c"]}]}
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == plain(value)


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "t.json", {"a": math.nan})
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- what goes wrong


class Boom(Exception):
    pass


@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt])
def test_an_error_within_keeps_the_old_folder(old, error):
    before = content(old)

    def write() -> None:
        with new_folder(old) as draft:
            write_text(draft / "note.txt", "the new content\n")
            raise error

    with pytest.raises(error):
        write()
    assert content(old) == before
    assert [each.name for each in old.parent.iterdir()] == ["old"]


@pytest.mark.parametrize("at", ["fsync", "rename", "replace"])
def test_full_disk_keeps_the_old_content(old, at, monkeypatch):
    before = content(old)
    if at == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, at, full)
    message = rf"could not write '.*': {os.strerror(errno.ENOSPC)}\. What was there before is untou"
    with pytest.raises(StorageError, match=message), new_folder(old) as draft:
        write_text(draft / "note.txt", "the new content\n")
    if at != "rename":
        with pytest.raises(StorageError, match=message):
            write_tensors(old / "weights.safetensors", {"a": torch.zeros(9)})
        with pytest.raises(StorageError, match="Free some space or choose a place"):
            write_text(old / "note.txt", "the new content\n")
    monkeypatch.undo()
    assert content(old) == before
    assert [each.name for each in old.parent.iterdir()] == ["old"]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "input/output error"), KeyboardInterrupt()])
def test_an_error_between_the_two_renames_puts_the_old_folder_back(old, error, monkeypatch):
    before = content(old)
    rename = Path.rename
    calls = []

    def second_fails(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == 2:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises((StorageError, KeyboardInterrupt)), new_folder(old) as draft:
        write_text(draft / "note.txt", "the new content\n")
    assert len(calls) == 3
    assert content(old) == before
    assert [each.name for each in old.parent.iterdir()] == ["old"]


def test_recover_undoes_what_a_killed_process_left(old):
    """Killed between the two renames, beside drafts of earlier kills and of another target."""
    before = content(old)
    aside = old.parent / ".old.1-ab.old"
    aside.mkdir()
    old.rename(aside / "old")
    (old.parent / ".old.1-cd.part").mkdir()
    (old.parent / ".old.1-cd.part" / "half").write_text("half")
    (old.parent / ".old.1-ef.part").write_text("half")
    (old.parent / ".other.1-ef.part").write_text("another's")
    recover(old)
    assert content(old) == before
    assert {each.name for each in old.parent.iterdir()} == {"old", ".other.1-ef.part"}


def test_recover_prefers_the_new_folder(old):
    """Killed after both renames: what stands in place is the newer one."""
    aside = old.parent / ".old.1-ab.old"
    (aside / "old").mkdir(parents=True)
    (aside / "old" / "note.txt").write_text("older still")
    recover(old)
    assert (old / "note.txt").read_text() == "the old content\n"
    assert [each.name for each in old.parent.iterdir()] == ["old"]


def test_recover_where_there_is_nothing(tmp_path):
    recover(tmp_path / "nothing")
    recover(tmp_path / "no" / "parent")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "f").write_text("keep me")
    for place, message in (
        ("f", "expected a folder or a new name, found a file"),
        ("f/g", "could"),
    ):
        with pytest.raises(StorageError, match=message), new_folder(tmp_path / place):
            raise AssertionError("must not be reached")
    assert (tmp_path / "f").read_text() == "keep me"


def test_a_folder_in_the_way_of_a_file(old):
    before = content(old)
    for write, value in ((write_text, "x"), (write_tensors, {"a": torch.ones(1)})):
        with pytest.raises(StorageError, match="could not write"):
            write(old, value)
    assert content(old) == before
    assert [each.name for each in old.parent.iterdir()] == ["old"]


def test_a_damaged_file_read_within_is_not_called_a_full_disk(tmp_path):
    (tmp_path / "damaged").write_bytes(b"\x00" * 20)
    with pytest.raises(SafetensorError), new_folder(tmp_path / "f"):
        load_file(tmp_path / "damaged")
    assert not (tmp_path / "f").exists()


FULL_FOR_REAL = """
import resource, signal, sys
from pathlib import Path
import torch
from latent_assay.atomic import new_folder, write_tensors, write_text
from latent_assay.errors import StorageError
target = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
def tensors(place):
    write_tensors(place / "weights.safetensors", {"a": torch.zeros(100_000)})
def text(place):
    write_text(place / "note.txt", "x" * 100_000)
for write in (tensors, text):
    try:
        with new_folder(target) as draft:
            write_text(draft / "small.txt", "fits")
            write(draft)
    except StorageError as error:
        print(error)
    try:
        write(target)
    except StorageError as error:
        print(error)
"""


def test_file_system_that_refuses_for_real(old):
    """The kernel itself says no: a limit on the size of files stands for a full disk."""
    before = content(old)
    root = str(Path(atomic.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FULL_FOR_REAL, str(old)],
        capture_output=True,
        text=True,
        cwd=root,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stdout
    assert all("could not write" in line and "File too large" in line for line in lines)
    assert content(old) == before
    assert [each.name for each in old.parent.iterdir()] == ["old"]
