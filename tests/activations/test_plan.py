import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from latent_assay.activations import LiveConfig, LiveStream, Share, plan_harvest, plan_stream
from latent_assay.activations.plan import Plan
from latent_assay.errors import ConfigError, StorageError
from tests.activations import tiny_models

HOOKS = ("blocks.1.hook_resid_post", "blocks.2.hook_mlp_out")
ROOT = Path(__file__).parents[2]

MEASURED = """
import json, sys
from pathlib import Path
import torch
from latent_assay.activations import LanguageModel, LiveConfig, LiveStream, harvest
from latent_assay.activations import plan_harvest, plan_stream
from latent_assay.activations.machine import peak_memory
from tests.activations import tiny_models

torch.set_num_threads(1)
folder = Path(sys.argv[2])
model = LanguageModel.load(tiny_models.save(folder / "m", "neox"))
hooks = tuple(f"blocks.{i}.{name}" for i in range(3) for name in (
    "hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_resid_post", "mlp.hook_post"))
hooks += ("blocks.0.mlp.hook_post:input",)[:0]
documents = tiny_models.text(400)
if sys.argv[1] == "stream":
    rows = 40_000
    stream = LiveStream(model, documents, LiveConfig(
        hook_points=hooks, batch_size=1024, buffer_rows=rows, context_size=64))
    plan = plan_stream(stream, n_batches=10 * rows // 1024)
    for _ in range(10 * rows // 1024):
        next(stream)
    store = 10 * rows * plan.bytes_per_token
    stream.close()
else:
    n = 200_000
    settings = dict(hook_points=hooks, folder=folder / "h", n_tokens=n, context_size=64,
                    shard_tokens=20_000)
    text = documents * 20
    plan = plan_harvest(model, text, **settings)
    harvest(model, text, progress=False, **settings)
    store = n * plan.bytes_per_token
print(json.dumps({"peak": peak_memory(), "plan": plan.ram_bytes,
                  "before": plan.ram[0].bytes, "store": store}))
"""


@pytest.mark.parametrize("kind", ["stream", "harvest"])
def test_memory_stays_under_the_plan(kind, tmp_path):
    """Ten times more text than fits, in a fresh process; the plan is no idle promise either."""
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, kind, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["peak"] <= found["plan"]
    assert found["plan"] - found["before"] < 0.6 * found["store"]


@pytest.fixture
def stream(tiny):
    config = LiveConfig(hook_points=HOOKS, batch_size=64, buffer_rows=1500, context_size=24)
    return LiveStream(tiny("neox"), tiny_models.text(30), config)


def test_stream_plan(stream):
    plan = plan_stream(stream, n_batches=1000, besides=[Share(what="an SAE", bytes=5)])
    plan.check()
    assert plan.bytes_per_token == 2 * 16 * 4
    assert plan.ram[1].bytes >= 16 * stream.reader.chunk_rows * plan.bytes_per_token
    assert plan.ram[-1] == Share(what="an SAE", bytes=5)
    assert plan.n_tokens == 64_000 + 16 * stream.reader.chunk_rows
    assert plan.seconds == plan.n_tokens / plan.tokens_per_second > 0
    text = "\n".join(plan.lines())
    assert "stream `blocks.1.hook_resid_post` and 1 more hook point of neox" in text
    for word in ("memory", "waiting in the ring", "tokens/s measured", "128 bytes per token"):
        assert word in text
    assert stream.state_dict()["turn"] == stream.state_dict()["row"] == 0
    endless = "\n".join(plan_stream(stream).lines())
    assert "per million tokens" in endless


def test_what_does_not_fit_in_memory_is_refused(stream):
    plan = plan_stream(stream, max_ram=10**6)
    with pytest.raises(
        ConfigError, match=r"of memory, most of it .* but there are 1 MB. Allow fewer buffer_rows"
    ):
        plan.check()


def test_harvest_plan(tiny, tmp_path):
    settings = {"hook_points": HOOKS, "folder": tmp_path / "h", "shard_tokens": 500}
    plan = plan_harvest(
        tiny("neox"), tiny_models.text(30), n_tokens=1000, dtype=torch.bfloat16, **settings
    )
    plan.check()
    assert plan.bytes_per_token == 2 * 16 * 2
    assert plan.disk == 1000 * (64 + 2 * 8 + 5)
    assert "disk" in "\n".join(plan.lines())
    once = plan_harvest(tiny("neox"), iter(tiny_models.text(2)), **settings)
    assert "unknown until the text ends" in "\n".join(once.lines())
    with pytest.raises(ConfigError, match=r"Choose smaller shard_tokens"):
        plan_harvest(tiny("neox"), tiny_models.text(30), max_ram=10, **settings).check()


def test_what_does_not_fit_on_the_disk_is_refused():
    plan = Plan(
        title="harvest", bytes_per_token=100, tokens_per_second=10.0, n_tokens=10**6, ram=(),
        ram_limit=None, disk=10**8, disk_limit=10**6,
    )  # fmt: skip
    with pytest.raises(
        StorageError, match=r"needs about 100 MB of disk.* 1 MB free.*about 10,000 fit.*bfloat16"
    ):
        plan.check()
    assert "27.8 h for 1,000,000 tokens, 10 tokens/s measured" in "\n".join(plan.lines())
