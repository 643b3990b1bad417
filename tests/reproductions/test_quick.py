"""Every claim, quickly: the same criteria as in full, trained on the expectation itself."""

import json
import os
import subprocess
import sys

from latent_assay.reproductions import ENTRIES

# Claims that do not hold as the sources state them; each entry's note tells what was found
# instead. `002-fig-15` holds or not with the seeds (see its note).
MAY_FAIL = {"002-fig-15", "003-wsae-learned", "003-wsae-shared"}


def test_claims_hold(tmp_path):
    command = [sys.executable, "-m", "latent_assay", "reproduce", "--quick", "--json"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        text=True, capture_output=True, timeout=1500, check=True,
    )  # fmt: skip
    summary = json.loads(done.stdout)
    content = json.loads((tmp_path / "reproductions.json").read_text())
    assert {each["id"] for each in content} == set(ENTRIES)
    failed = {each["id"]: each["note"] for each in content if not each["passed"]}
    assert set(failed) <= MAY_FAIL, failed
    assert len(failed) <= 0.05 * len(content)
    assert summary["passed"] == summary["claims"] - len(failed)
    broke_off = [each["id"] for each in content if "broke off" in each["note"]]
    assert not broke_off
    trained = [each for each in content if each["members"] > 1]
    assert all(each["members"] >= 6 for each in trained), trained
    assert (tmp_path / "report.html").stat().st_size < 20_000_000
