"""Every kernel compiles for GPUs, also where there is none; and nothing needs Triton before that.

The interpreter accepts more than the compiler does. Here launches are replaced by compilation, with
the types that they were called with, down to machine code.
"""

import os
import subprocess
import sys

import pytest
import torch

from latent_assay.kernels import triton as kernels

PROGRAM = """
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from latent_assay.kernels import Selection
from latent_assay.kernels.triton import launch as place

NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.int64: "i64", torch.int32: "i32",
         torch.int16: "i16"}
TARGET = GPUTarget("cuda", 90, 32)

def compile(kernel, grid, like, **arguments):
    constants = {n: v for n, v in arguments.items() if n.isupper()}
    signature = {}
    for name, value in arguments.items():
        if name in constants:
            signature[name] = "constexpr"
        elif isinstance(value, torch.Tensor):
            signature[name] = "*" + NAMES[value.dtype]
        else:
            signature[name] = "fp32" if isinstance(value, float) else "i32"
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    binary = triton.compile(source, target=TARGET, options={"enable_fp_fusion": True})
    assert len(binary.asm["cubin"]) > 0
    print(kernel.__name__)

place.launch = compile
from latent_assay.kernels.triton import *

batch, width, d_in = 600, 3000, 2304
selection = Selection(members=1, batch=batch, width=width, row_start=torch.arange(batch + 1),
                      column=torch.arange(batch) % 2)
for dtype in (torch.float32, torch.bfloat16):
    value = torch.ones(batch, dtype=dtype, requires_grad=True)
    W_dec = torch.ones(1, width, d_in, requires_grad=True)
    x = torch.ones(batch, d_in, dtype=dtype)
    index = InvertedIndex.of(selection.column, width)
    edge = torch.zeros(batch, 2, dtype=torch.int64)
    for prefix in (False, True):
        decode(value, selection.column, edge, W_dec[0], prefix=prefix)
    suffix_sums(x[None])
    value_gradient(x, W_dec[0], selection.row, selection.column)
    weight_gradient(index, value, x, selection.row)
    pre = torch.ones(1, batch, width, dtype=dtype)
    threshold(pre, torch.ones(1))
    for strict in (False, True):
        select_above(pre, torch.ones(1), strict=strict)
for unit, clip, project in [(False, False, False), (False, True, False), (True, True, True)]:
    p, g, m, v = (torch.ones(1, 4, d_in) for _ in range(4))
    gradient_norms(g, p if unit else None)
    adam_rows(p, g, m, v, lr=torch.ones(1), accept=torch.ones(1, dtype=torch.bool), step=1,
              scale=torch.ones(1) if clip else None, radial=torch.ones(1, 4) if project else None,
              unit=unit)
"""


def run(program: str, **environment: str) -> str:
    kept = {name: each for name, each in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_kernels_compile(tmp_path):
    compiled = run(PROGRAM, TRITON_CACHE_DIR=str(tmp_path)).split()
    assert set(compiled) == {
        "_adam",
        "_chunks",
        "_count",
        "_decode",
        "_fire",
        "_norms",
        "_pick",
        "_sampled",
        "_segments",
        "_suffix_sums",
    }


def test_nothing_imports_triton_before_it_is_asked_for():
    loaded = run(
        "import sys, torch, latent_assay.kernels.triton as kernels\n"
        "kernels.available(torch.device('cpu'))\n"
        "print(*sys.modules)"
    ).split()
    assert "latent_assay.kernels.triton" in loaded
    assert "triton" not in loaded


@pytest.mark.parametrize("interpreted", ["0", "1"])
def test_where_the_kernels_run(interpreted, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", interpreted)
    assert kernels.available(torch.device("cpu")) == (interpreted == "1")
    assert kernels.available(torch.device("cuda")) == (interpreted == "0")
    assert not kernels.available(torch.device("meta"))


def test_without_triton_there_are_no_kernels(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not kernels.available(torch.device("cuda"))


def test_every_name_is_there():
    for name in kernels.__all__:
        assert (getattr(kernels, name).__doc__ or "").strip(), name
    with pytest.raises(AttributeError, match=r"no attribute 'treshold'.*Did you mean `threshold`"):
        kernels.treshold  # noqa: B018
