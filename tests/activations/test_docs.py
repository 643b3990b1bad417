"""The examples on the page are run, from top to bottom, as a reader would."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "activations.md"


def test_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(examples) >= 8
    names = {}
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)
    store, model = names["store"], names["model"]
    # what the page says beside the code
    assert next(names["batches"]).shape == (256, 384)
    assert store.n_rows == 2000
    assert store.manifest["norm_outliers"]["n_outliers"] == 0
    assert list(store.manifest["norm_outliers"])[:3] == ["left_out", "n_outliers", "median_norm"]
    assert store.manifest["special_tokens"]["n_special"] > 0
    assert model.reads("blocks.3.attn.hook_z") in PAGE.read_text()
    assert model.d_in("encoder.layer.3.intermediate") == 1536
    assert names["checks"]["blocks.3.hook_resid_post"].compared_with == "hidden_states[4]"
    assert names["read"]["blocks.2.hook_resid_post"].shape == (1, 4, 384)
    assert names["words"]
