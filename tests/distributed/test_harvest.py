"""A harvest that ranks share is the harvest of one process."""

import json

from tests.activations import tiny_models

from . import work
from .launching import succeed


def test_files_are_those_of_one_process(tmp_path):
    tiny_models.save(tmp_path / "model", "gpt2")
    succeed(2, "harvesting", tmp_path)
    store = work.share_of_harvest(tmp_path / "model", tmp_path / "alone")
    for rank in range(2):
        assert json.loads((tmp_path / f"rows-{rank}.json").read_text()) == store.n_rows
    files = {
        path.relative_to(tmp_path / "alone"): path.read_bytes()
        for path in (tmp_path / "alone").rglob("*")
        if path.is_file()
    }
    assert sum(path.name.startswith("shard-") for path in files) >= 3
    for path, content in files.items():
        found = (tmp_path / "shared" / path).read_bytes()
        if path.suffix == ".json":
            assert json.loads(found) == json.loads(content)
        else:
            assert found == content, path
    assert not list((tmp_path / "shared").rglob(".*"))
