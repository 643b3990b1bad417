import json
import sys
from pathlib import Path

import pytest

from latent_assay.activations import TextSource, documents, text_files, text_source
from latent_assay.activations import cpython as cpython_module
from latent_assay.errors import DataError

TEXTS = ["first text", "second text", "third, with ümläuts"]


def test_iterable_and_its_hash():
    assert list(documents(TEXTS)) == TEXTS
    assert list(documents(t for t in TEXTS)) == TEXTS
    assert list(documents(["a", "", "  \n", "b"])) == ["a", "b"]
    assert text_source(TEXTS).hash() == text_source(tuple(TEXTS)).hash() is not None
    assert text_source(TEXTS).hash() != text_source(TEXTS[:2]).hash()
    assert text_source(["ab", "c"]).hash() != text_source(["a", "bc"]).hash()
    assert text_source(t for t in TEXTS).hash() is None


def test_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(TEXTS), encoding="utf-8")
    assert list(documents(path)) == ["\n\n".join(TEXTS)]
    assert list(documents(str(path))) == ["\n\n".join(TEXTS)]


def test_large_file_is_cut_at_empty_lines_without_losing_anything(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "_CHARACTERS_PER_DOCUMENT", 100)
    content = "\n\n".join(f"paragraph {i} " + "word " * (i % 7) for i in range(60))
    content += "\n" + "line without an empty one behind it\n" * 30
    path = tmp_path / "a.md"
    path.write_text(content, encoding="utf-8")
    found = list(documents(path))
    assert "".join(found) == content
    assert len(found) > 10
    assert max(len(d) for d in found) < 300
    assert found[0].endswith("\n\n")


def test_folder_is_recursive_and_sorted(tmp_path):
    for name, content in [("b/x.md", "2"), ("a.txt", "1"), ("c.py", "3"), ("skip.bin", "no")]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    source = text_source(tmp_path)
    assert list(source) == ["1", "2", "3"]
    before = source.hash()
    (tmp_path / "b/x.md").write_text("changed")
    assert source.hash() != before
    described = source.describe()
    assert described["kind"] == "folder"
    assert str(tmp_path.parent) not in json.dumps(described)


def test_json_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": t, "body": t.upper()}) + "\n\n" for t in TEXTS))
    assert list(documents(path)) == TEXTS
    assert list(documents(path, column="body")) == [t.upper() for t in TEXTS]
    with pytest.raises(DataError, match=r"line 1 of .* has no field `content`; found text, body"):
        list(documents(path, column="content"))
    path.write_text('{"text": "a"}\nnot json\n')
    with pytest.raises(DataError, match=r"line 2 of .* is not JSON"):
        list(documents(path))
    path.write_text("[1]\n")
    with pytest.raises(DataError, match=r"has no field `text`; found list"):
        list(documents(path))
    path.write_text('{"text": 3}\n')
    with pytest.raises(DataError, match=r"document 0 of .* is a int; expected a string"):
        list(documents(path))


@pytest.fixture
def table():
    import datasets

    return datasets.Dataset.from_dict({"text": TEXTS, "title": ["A", "B", "C"], "n": [1, 2, 3]})


def test_data_set_in_memory(table):
    assert list(documents(table)) == TEXTS
    assert list(documents(table, column="title")) == ["A", "B", "C"]
    assert list(documents(table.to_iterable_dataset(), column="title")) == ["A", "B", "C"]
    with pytest.raises(DataError, match=r"no column `titel`; its columns are text, title.*`title`"):
        list(documents(table, column="titel"))
    with pytest.raises(DataError, match=r"no column `text`; its columns are .*title"):
        list(documents(table.rename_column("text", "body").remove_columns("n")))
    assert list(documents(table.rename_column("text", "body").remove_columns("title"))) == TEXTS
    with pytest.raises(DataError, match=r"document 0 of .* is a int"):
        list(documents(table, column="n"))


def test_data_set_on_disk(table, tmp_path):
    import datasets

    table.save_to_disk(tmp_path / "one")
    assert list(documents(tmp_path / "one")) == TEXTS
    assert text_source(tmp_path / "one").hash() is not None
    splits = datasets.DatasetDict({"train": table, "test": table.select([0])})
    splits.save_to_disk(tmp_path / "two")
    assert list(documents(tmp_path / "two")) == TEXTS
    assert list(documents(tmp_path / "two", split="test")) == TEXTS[:1]
    with pytest.raises(DataError, match=r"has the splits train, test; there is no `dev`"):
        list(documents(tmp_path / "two", split="dev"))
    del splits["train"]
    splits["other"] = table
    with pytest.raises(DataError, match=r"has the splits test, other; name one as `split`"):
        list(documents(splits))


def test_tables(table, tmp_path):
    table.to_csv(str(tmp_path / "a.csv"))
    table.to_parquet(str(tmp_path / "a.parquet"))
    table.save_to_disk(tmp_path / "saved")
    arrow = next((tmp_path / "saved").glob("*.arrow"))
    import pyarrow

    plain = table.data.table
    with pyarrow.ipc.new_file(tmp_path / "b.arrow", plain.schema) as file:
        file.write_table(plain)
    for path in (tmp_path / "a.csv", tmp_path / "a.parquet", arrow, tmp_path / "b.arrow"):
        assert list(documents(path)) == TEXTS
        assert list(documents(path, column="title")) == ["A", "B", "C"]
        with pytest.raises(DataError, match=r"no column `nothing`; its columns are text, title, n"):
            list(documents(path, column="nothing"))
    for suffix in ("parquet", "arrow"):
        (tmp_path / f"bad.{suffix}").write_bytes(b"this is no table at all")
        with pytest.raises(DataError, match=f"cannot be read as {suffix}"):
            list(documents(tmp_path / f"bad.{suffix}"))


def test_csv_with_long_and_broken_lines(tmp_path):
    texts = ['one\ntwo, with "quotes"', "word " * 100_000]
    import csv

    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *[[text] for text in texts]])
    assert list(documents(tmp_path / "a.csv")) == texts


def test_hub_data_set_offline(monkeypatch):
    import datasets

    def offline(*_, **__):
        raise ConnectionError("Couldn't reach 'nobody/nothing' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    source = text_source("nobody/nothing", split="train", subset="en")
    assert source.kind == "hub"
    assert source.hash() is None
    with pytest.raises(DataError, match=r"`nobody/nothing` is neither a file.*save it to disk"):
        list(source)


def test_hub_data_set_settings_are_passed_on(monkeypatch, table):
    import datasets

    asked = {}

    def load(name, subset, **settings):
        asked.update(settings, name=name, subset=subset)
        return table

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert list(documents("a/b", split="train", subset="en", column="title")) == ["A", "B", "C"]
    assert asked == {"name": "a/b", "subset": "en", "split": "train", "streaming": True}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "text cannot be read from a int"),
        ({"text": ["a"]}, "text cannot be read from a dict"),
        (b"bytes", "text cannot be read from a bytes"),
        ("no/such/file.txt", "there is no file or folder 'no/such/file.txt'.*does not exist"),
        (Path("nothing"), "there is no file or folder 'nothing'"),
        ("A sentence, not a file.", "in a list"),
        ([], r"the Python object holds no text"),
        (["", " "], r"the Python object holds no text"),
        (["fine", 3], "document 1 of the Python object is a int; expected a string"),
    ],
)
def test_impossible_sources(source, message):
    with pytest.raises(DataError, match=message):
        list(documents(source))


def test_files_that_are_not_text(tmp_path):
    with pytest.raises(DataError, match=r"holds no text: expected .txt, .md.*found nothing"):
        list(documents(tmp_path))
    (tmp_path / "notes.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"notes.txt' is not UTF-8 text.*0xe9"):
        list(documents(tmp_path / "notes.txt"))
    with pytest.raises(DataError, match=r"Did you mean `notes.txt`"):
        text_source(str(tmp_path / "note.txt"))
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match=r"the file '.*notes.txt' holds no text"):
        list(documents(tmp_path / "notes.txt"))
    (tmp_path / "notes.txt").rename(tmp_path / "notes.pdf")
    with pytest.raises(DataError, match=r"expected .txt.*found .pdf"):
        list(documents(tmp_path))


def test_cpython_needs_no_import_and_is_deterministic():
    loaded = set(sys.modules)
    source = documents("cpython")
    first = [next(source) for _ in range(25)]
    assert set(sys.modules) - loaded <= {"pydoc_data", "pydoc_data.topics"}
    again = documents("cpython")
    assert [next(again) for _ in range(25)] == first
    assert len(set(first)) == 25
    names = [document.split("\n", 1)[0] for document in first]
    assert names != sorted(names)
    assert sum(len(document) for document in first) > 5000
    assert TextSource(kind="cpython").describe()["hash"].startswith("CPython 3.")


def test_cpython_page_of_a_module(tmp_path, monkeypatch):
    (tmp_path / "pydoc_data").mkdir()
    (tmp_path / "pydoc_data/topics.py").write_text("topics = {'assert': 'About assert.'}\n")
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/left_out.py").write_text('"""Left out."""')
    (tmp_path / "m.py").write_text(
        '"""Module."""\nraise RuntimeError("must not run")\n'
        'class C:\n    """Class."""\n    def f(self):\n        """Method."""\n'
        "def undocumented(): pass\n"
    )
    monkeypatch.setattr(cpython_module.sysconfig, "get_path", lambda _: str(tmp_path))
    assert sorted(documents("cpython")) == [
        "About assert.",
        "m\n\nModule.\n\nm.C\n\nClass.\n\nm.C.f\n\nMethod.",
    ]
    monkeypatch.setattr(cpython_module.sysconfig, "get_path", lambda _: str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"this Python has no source files"):
        list(documents("cpython"))
