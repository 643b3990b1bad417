"""What ranks do in the tests; run as a program, once per rank, as a launcher would.

python -m tests.distributed.work JOB FOLDER [ARGUMENTS AS JSON]
"""

import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor

from latent_assay.atomic import write_json
from latent_assay.batch import WeightedBatch
from latent_assay.distributed import Ranks, largest_over_ranks, threshold_over_ranks
from latent_assay.errors import AssayError
from latent_assay.history import History
from latent_assay.kernels import force_path
from latent_assay.losses import AuxK, Lp, Objective, SharedMatryoshka, SquaredError
from latent_assay.recipes import RECIPES, Recipe
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU, Sparsifier
from latent_assay.training import fit
from tests.laws import recipes

STEPS = 100
WIDTH = 11  # neither 2 nor 3 divides it

if TYPE_CHECKING:
    from latent_assay.activations import ActivationStore

LEVELS = {"levels": (4, 7, WIDTH), "beta": ((1.0, 1.0, 1.0), (0.0, 0.5, 1.0))}
OPTIONS: dict[str, dict] = {
    "topk": {"dead_after": 64, "auxk": 0.5, "k_aux": 1},
    "batchtopk": {"dead_after": 64, "auxk": 0.5, "k_aux": 1},
    "matryoshka_batchtopk": {**LEVELS, "dead_after": 64, "auxk": 0.5, "k_aux": 1},
    "matryoshka": {**LEVELS, "detached": True},
    "balance_matryoshka": {"levels": (1, 5, WIDTH), "dead_after": 64},
}
NAMES = ["relu_l1", *OPTIONS, "jumprelu", "tied", "tied_orthogonal", "wsae"]


class Stream:
    """Sparse mixtures, endless, that can be continued; slow and mortal if asked to be."""

    def __init__(self, *, seed: int = 0, weighted: bool = False, act: dict | None = None):
        self.generator = torch.Generator().manual_seed(seed)
        self.directions = torch.randn(
            14, recipes.D_IN, generator=torch.Generator().manual_seed(99), dtype=torch.float64
        )
        self.weighted = weighted
        self.act = act or {}
        self.step = 0

    def __iter__(self) -> Iterator[Tensor | WeightedBatch]:
        return self

    def __next__(self) -> Tensor | WeightedBatch:
        if self.step == self.act.get("step"):
            misbehave(self.act["how"])
        self.step += 1
        size = (recipes.BATCH, len(self.directions))
        firing = torch.rand(size, generator=self.generator, dtype=torch.float64) < 0.15
        strength = torch.rand(size, generator=self.generator, dtype=torch.float64)
        x = (firing * strength) @ self.directions
        if not self.weighted:
            return x
        weight = torch.rand(len(x), generator=self.generator, dtype=torch.float64)
        return WeightedBatch(x, weight / weight.sum())

    def state_dict(self) -> dict[str, Tensor]:
        return {"generator": self.generator.get_state(), "step": torch.tensor(self.step)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.generator.set_state(state["generator"])
        self.step = int(state["step"])


def misbehave(how: str) -> None:
    if how == "raise":
        raise RuntimeError("the disk is on fire")
    if how == "hang":
        time.sleep(60)
    os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[how])


def recipe(name: str) -> Recipe:
    """Two members that differ; one is narrower where a recipe allows it."""
    changes: dict = {"width": WIDTH, **OPTIONS.get(name, {})}
    if name in ("topk", "relu_l1"):
        changes["width"] = (WIDTH, WIDTH - 3)
    made = recipes.ensemble(name, **changes)
    assert name in RECIPES
    with torch.no_grad():
        if name == "relu_l1":
            made = with_rescue(made)
            made.sae.b_enc[:, : WIDTH - 3 : 2] -= 1.0  # and leave padding alone
        else:  # too small to be among the k largest, large enough to be rescued
            made.sae.W_enc[:, ::2] *= 0.1
    return made


def with_rescue(plain: Recipe) -> Recipe:
    sae = plain.sae
    rescue = AuxK(0.5, members=sae.members, width=sae.width, k=1, dead_after=64)
    terms = [each for each in plain.objective.terms if isinstance(each, SquaredError | Lp)]
    return plain._replace(objective=Objective([*terms, rescue]))


def train(
    name: str,
    *,
    ranks: Ranks | None = None,
    folder: Path | None = None,
    path: str = "dense",
    stream: Stream | None = None,
    **changes: object,
) -> tuple[SAE, History]:
    sae, objective, config = recipe(name)
    settings = {"steps": STEPS, "log_every": 10, "checkpoint_every": 20, "lr_warm_up_steps": 10}
    config = dataclasses.replace(config, **(settings | {"dead_after": 64} | changes))
    with force_path(path):  # type: ignore[arg-type]
        history = fit(
            sae,
            objective,
            stream or Stream(),
            config,
            folder=folder,
            progress=False,
            ranks=ranks,
        )
    return sae, history


def train_case(case: dict, ranks: Ranks | None = None) -> tuple[SAE, History]:
    options = {"weighted": False, "path": "dense", **case}
    stream = Stream(weighted=options.pop("weighted"))
    return train(options.pop("name"), ranks=ranks, stream=stream, **options)


class Own(ReLU):
    """A sparsifier of a user's own, which does not say how to divide it."""

    on_rank = Sparsifier.on_rank


# --- jobs ---------------------------------------------------------------------------------------


def equal(ranks: Ranks, folder: Path, cases: dict[str, dict]) -> None:
    """Train every case and leave the result of every rank."""
    for number, case in cases.items():
        sae, history = train_case(case, ranks)
        keep(sae, history, folder / f"{number}-{ranks.rank}")
    selection(ranks, folder)
    refused(ranks, folder)


def keep(sae: SAE, history: History, place: Path) -> None:
    save_file({k: v.contiguous().clone() for k, v in sae.state_dict().items()}, f"{place}.sae")
    write_json(Path(f"{place}.json"), history.records)


def selection(ranks: Ranks, folder: Path) -> None:
    """Thresholds and winners over ranks, beside those of one process."""
    found = {}
    for number, (pre, k, weight) in enumerate(selections()):
        parts = pre.tensor_split(ranks.number, dim=-1)
        own = parts[ranks.rank].contiguous()
        found[f"{number}.threshold"] = threshold_over_ranks(own, k, weight, ranks)
        found[f"{number}.largest"] = largest_over_ranks(own, k.long(), ranks)
    tensors = {name: each.contiguous() for name, each in found.items()}
    save_file(tensors, folder / f"selection-{ranks.rank}")


def selections() -> list[tuple[Tensor, Tensor, Tensor | None]]:
    generator = torch.Generator().manual_seed(1)
    k = torch.tensor([3.0, 1.0], dtype=torch.float64)
    cases: list[tuple[Tensor, Tensor, Tensor | None]] = []
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        pre = torch.randn(2, 16, 10, generator=generator, dtype=torch.float64).to(dtype)
        cases.append((pre, k, None))
    pre = torch.randn(2, 16, 10, generator=generator, dtype=torch.float64)
    weight = torch.rand(16, generator=generator, dtype=torch.float64)
    cases.append((pre, k, weight / weight.sum()))
    cases.append((pre, torch.tensor([2.3, 0.01], dtype=torch.float64).clamp_min(1), None))
    cases.append((pre.round(), k, None))  # many ties
    cases.append((-pre.abs(), k, None))  # nothing positive
    cases.append((torch.cat([pre[..., :5] + 9, pre[..., 5:]], -1), k, None))  # all on some ranks
    return cases


def resumable(ranks: Ranks, folder: Path, names: list[str], until: int) -> None:
    """Train with checkpoints, to the end or until interrupted."""
    for name in names:
        act = {}
        if until < STEPS:
            act = {"step": until, "how": "stop_all"}
        stream = Interrupting(act) if act else Stream()
        sae, history = train(name, ranks=ranks, folder=folder / name, stream=stream)
        assert history.interrupted == (until < STEPS)
        keep(sae, history, folder / f"{name}-{ranks.rank}-of-{ranks.number}")


class Interrupting(Stream):
    """Presses Ctrl-C on the last rank."""

    def __init__(self, act: dict):
        super().__init__()
        self.at = act["step"]

    def __next__(self) -> Tensor | WeightedBatch:
        if self.step == self.at and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGINT)
        return super().__next__()


def losing(ranks: Ranks, folder: Path, rank: int, step: int, how: str) -> None:
    """One rank comes to grief."""
    act = {"step": step, "how": how} if ranks.rank == rank else None
    train("topk", ranks=ranks, folder=folder / "run", stream=Stream(act=act))


def refused(ranks: Ranks, folder: Path) -> None:
    """What cannot be divided, or is not the same on all ranks, is refused."""
    sae, objective, config = recipe("batchtopk")
    nested = SharedMatryoshka([SquaredError()], levels=(4, WIDTH), members=2, width=WIDTH)
    narrow = recipes.ensemble("relu_l1", width=(WIDTH, 1)).sae
    cases = {
        "term": (sae, Objective([nested]), Stream()),
        "width": (narrow, objective, Stream()),
        "sparsifier": (SAE(sae.W_enc.data, sparsifier=Own()), objective, Stream()),
        "batches": (sae, objective, Stream(seed=ranks.rank)),
    }
    said = {}
    for name, (each, terms, stream) in cases.items():
        try:
            fit(each, terms, stream, config, progress=False, ranks=ranks)
        except AssayError as error:
            said[name] = f"{type(error).__name__}: {error}"
    write_json(folder / f"refused-{ranks.rank}.json", said)


def meeting(ranks: Ranks, folder: Path, killed: bool) -> None:
    """Wait for a rank that comes late, and for one that never comes."""
    if ranks.rank == 1:
        time.sleep(1.5)
    ranks.meet()
    (folder / f"met-{ranks.rank}").touch()
    if killed and ranks.rank == 1:
        misbehave("kill")
    ranks.meet()


def harvesting(ranks: Ranks, folder: Path) -> None:
    """Share a harvest; then all open it."""
    store = share_of_harvest(folder / "model", folder / "shared", ranks)
    write_json(folder / f"rows-{ranks.rank}.json", store.n_rows)


def share_of_harvest(model: Path, folder: Path, ranks: Ranks | None = None) -> "ActivationStore":
    from latent_assay.activations import LanguageModel, harvest
    from tests.activations import tiny_models  # brings transformers, which no other job needs

    hook = "blocks.1.hook_resid_post"
    return harvest(
        LanguageModel.load(model),
        tiny_models.text(12),
        hook_points=hook,
        folder=folder,
        context_size=20,
        shard_tokens=96,
        progress=False,
        ranks=ranks,
    )[hook]


def main() -> None:
    job, folder, arguments = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    patience = arguments.pop("patience", 60.0)
    try:
        with Ranks.join(device="cpu", patience=patience, beat=0.2, silence=6.0) as ranks:
            globals()[job](ranks, folder, **arguments)
    except AssayError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(3)


if __name__ == "__main__":
    main()
