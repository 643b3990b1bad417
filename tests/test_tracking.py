import errno
import json
import math
import os
import sys
from types import ModuleType, SimpleNamespace

import pytest

from latent_assay.errors import MissingExtra, StorageError
from latent_assay.tracking import JsonLines, TensorBoard, Tracker, Wandb

RECORD = {"step": 5, "samples": 80, "loss": [0.5, math.nan], "l0": [3.0, 4.0]}


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def test_json_lines_are_strict_json(tmp_path):
    log = JsonLines(tmp_path / "deep" / "log.jsonl")
    log.write(RECORD)
    # on the disk at once, whatever happens to the process
    first = (tmp_path / "deep" / "log.jsonl").read_text()
    assert first.endswith("\n")
    log.write(RECORD | {"loss": [math.inf, -math.inf]})
    log.close()
    lines = (tmp_path / "deep" / "log.jsonl").read_text().splitlines()
    records = [json.loads(line, parse_constant=refuse) for line in lines]
    assert records[0] == {"step": 5, "samples": 80, "loss": [0.5, "nan"], "l0": [3.0, 4.0]}
    assert records[1]["loss"] == ["inf", "-inf"]
    assert RECORD["loss"][0] == 0.5
    assert math.isnan(RECORD["loss"][1])  # the record itself is as it was


def test_json_lines_are_appended(tmp_path):
    for step in (1, 2):
        log = JsonLines(tmp_path / "log.jsonl")
        log.write({"step": step})
        log.close()
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'


def test_json_lines_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"could not write '.*log\.jsonl'"):
        JsonLines(tmp_path / "file" / "log.jsonl")
    log = JsonLines(tmp_path / "log.jsonl")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    log._file.close()
    monkeypatch.setattr(log, "_file", SimpleNamespace(write=full, flush=full, close=full))
    with pytest.raises(StorageError, match=os.strerror(errno.ENOSPC)):
        log.write(RECORD)
    with pytest.raises(StorageError, match=os.strerror(errno.ENOSPC)):
        log.close()


@pytest.mark.parametrize(
    ("package", "make", "purpose"),
    [
        ("wandb", lambda: Wandb("project"), "tracking with Weights & Biases"),
        ("tensorboard", lambda: TensorBoard("folder"), "tracking with TensorBoard"),
    ],
)
def test_a_missing_tracker_names_the_command(package, make, purpose, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    message = rf"{purpose} needs the package `{package}`.*pip install 'latent-assay\[track\]'"
    with pytest.raises(MissingExtra, match=message):
        make()


def test_wandb_gets_a_number_for_each_member(monkeypatch):
    calls: list[tuple] = []
    run = SimpleNamespace(
        log=lambda values, step: calls.append((values, step)), finish=lambda: calls.append(("end",))
    )
    fake = ModuleType("wandb")
    fake.init = lambda **arguments: calls.append((arguments,)) or run
    monkeypatch.setitem(sys.modules, "wandb", fake)
    tracker = Wandb("project", name="run")
    assert isinstance(tracker, Tracker)
    tracker.write(RECORD | {"loss": [0.5, 0.25]})
    tracker.close()
    assert calls == [
        ({"project": "project", "name": "run", "mode": "offline"},),
        ({"loss/0": 0.5, "loss/1": 0.25, "l0/0": 3.0, "l0/1": 4.0}, 5),
        ("end",),
    ]


def test_tensorboard_gets_a_number_for_each_member(monkeypatch, tmp_path):
    calls: list[tuple] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            calls.append((folder,))

        def add_scalar(self, *arguments: object) -> None:
            calls.append(arguments)

        def close(self) -> None:
            calls.append(("end",))

    fake = ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "tensorboard", ModuleType("tensorboard"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    tracker = TensorBoard(tmp_path)
    tracker.write({"step": 5, "samples": 80, "loss": [0.5, 0.25]})
    tracker.close()
    assert isinstance(tracker, Tracker)
    assert calls == [(str(tmp_path),), ("loss/0", 0.5, 5), ("loss/1", 0.25, 5), ("end",)]


def test_json_lines_are_a_tracker(tmp_path):
    log = JsonLines(tmp_path / "log.jsonl")
    log.close()
    assert isinstance(log, Tracker)
