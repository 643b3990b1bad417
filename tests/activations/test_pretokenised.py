import json

import datasets
import pytest
import torch

from latent_assay.activations import LiveConfig, LiveStream, harvest, text_source
from latent_assay.activations.contexts import TokenRow, contexts, located_contexts
from latent_assay.errors import ConfigError, DataError
from tests.activations import tiny_models

HOOK = "blocks.1.hook_resid_post"
TEXTS = tiny_models.text(40)


@pytest.fixture
def model(tiny):
    return tiny("llama")


@pytest.fixture
def rows(model):
    """What the tokenizer makes of the texts, padded to 24 tokens, as data sets are stored."""
    found = []
    for text in TEXTS:
        ids = model.tokenizer(text)["input_ids"][:24]
        special = [int(token < 3) for token in ids]
        padding = 24 - len(ids)
        found.append(
            {
                "input_ids": ids + [2] * padding,
                "attention_mask": [1] * len(ids) + [0] * padding,
                "special_tokens_mask": special + [1] * padding,
                "length": len(ids),
            }
        )
    return found


def without(rows, *columns):
    return [{k: v for k, v in row.items() if k not in columns} for row in rows]


@pytest.mark.parametrize(
    "left_out",
    [(), ("length",), ("attention_mask",), ("special_tokens_mask",), ("length", "attention_mask")],
)
def test_rows_of_tokens_equal_their_text(model, rows, left_out):
    data = datasets.Dataset.from_list(without(rows, *left_out))
    found = list(contexts(model.tokenizer, text_source(data), context_size=24))
    expected = []
    for text in TEXTS:  # cut to their first 24 tokens, as the rows are
        expected.append(next(contexts(model.tokenizer, [text], context_size=24)))
    if "attention_mask" in left_out and "length" in left_out:
        assert [c.token_ids for c in found] == [tuple(row["input_ids"]) for row in rows]
        assert sum(c.n_text_tokens for c in found) == sum(c.n_text_tokens for c in expected)
    else:
        assert found == expected


def test_long_rows_are_cut_without_anything_added(model):
    row = TokenRow(token_ids=tuple(range(3, 53)))
    found = list(contexts(model.tokenizer, [row], context_size=20))
    assert [len(c.token_ids) for c in found] == [20, 20, 10]
    assert sum((c.token_ids for c in found), ()) == row.token_ids


def test_every_kind_of_data_set_gives_the_same_stream(model, rows, tmp_path):
    data = datasets.Dataset.from_list(rows)
    data.save_to_disk(tmp_path / "saved")
    data.to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = [
        data,
        data.with_format("torch"),
        data.to_iterable_dataset(num_shards=3),
        tmp_path / "saved",
        tmp_path / "rows.parquet",
        tmp_path / "rows.jsonl",
    ]
    config = LiveConfig(
        hook_points=(HOOK,), batch_size=32, context_size=24, buffer_rows=600, background=False
    )
    expected = None
    for source in sources:
        stream = LiveStream(model, source, config)
        batches = [next(stream)[HOOK] for _ in range(30)]
        state = stream.state_dict()
        after = next(stream)[HOOK]
        again = LiveStream(model, source, config)
        again.load_state_dict(state)
        assert torch.equal(next(again)[HOOK], after)
        expected = expected or batches
        assert all(torch.equal(a, b) for a, b in zip(batches, expected, strict=True))


def test_streaming_text_is_resumed(model):
    """A `datasets` object that is read as it comes, with a document that is nothing."""
    texts = [*TEXTS[:10], "", None, *TEXTS[10:]]
    table = datasets.Dataset.from_dict({"text": texts})
    source = text_source(table.to_iterable_dataset())
    assert [number for number, _ in source.numbered()] == [*range(10), *range(12, 42)]
    for start in (0, 5, 11, 20):
        expected = [each for each in source.numbered() if each[0] >= start]
        assert list(source.numbered(start)) == expected
        assert list(text_source(table).numbered(start)) == expected


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_contexts_go_on_from_any_place(tiny, pack, family):
    tokenizer = tiny(family).tokenizer
    documents = [*tiny_models.text(9), "a", "b", *tiny_models.text(70)]
    settings = {"context_size": 20, "pack": pack, "n_tokens": 3000}
    whole = list(located_contexts(tokenizer, enumerate(documents), **settings))
    assert [c for _, c in whole] == list(contexts(tokenizer, documents, **settings))
    for i in (0, 1, 7, 30, len(whole) - 1):
        place = whole[i][0]
        rest = list(enumerate(documents))[place.document :]
        assert list(located_contexts(tokenizer, rest, start=place, **settings)) == whole[i:]


def test_harvest_of_rows(model, rows, tmp_path):
    data = datasets.Dataset.from_list(rows)
    settings = {"hook_points": HOOK, "context_size": 24, "progress": False}
    store = harvest(model, data, folder=tmp_path / "h", **settings)[HOOK]
    assert store.context(0).tolist() == rows[0]["input_ids"][: rows[0]["length"]]
    assert store.manifest["special_tokens"]["n_special"] == len(rows)  # a BOS each


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": [3, 320]}, r"row 0 holds token number 320 .*tokenizer has 320 tokens"),
        ({"input_ids": [3, -1]}, r"smallest: -1"),
        ({"input_ids": [3.5]}, r"`input_ids` holds a list; expected text or a list of token"),
        ({"length": 9}, r"`length` 9 but 2 numbers in `input_ids`"),
        ({"attention_mask": [1]}, r"1 numbers in `attention_mask` but 2 token numbers"),
        ({"special_tokens_mask": [1] * 3}, r"3 numbers in `special_tokens_mask`"),
    ],
)
def test_rows_that_make_no_sense(model, change, message):
    data = datasets.Dataset.from_list([{"input_ids": [3, 4]} | change])
    with pytest.raises(DataError, match=message):
        list(contexts(model.tokenizer, text_source(data), context_size=8))


def test_rows_are_not_packed(model):
    row = TokenRow(token_ids=(3, 4))
    with pytest.raises(ConfigError, match=r"these come as token numbers and are contexts already"):
        list(contexts(model.tokenizer, [row], context_size=8, pack=True))
