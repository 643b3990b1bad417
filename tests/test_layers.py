"""Nothing on the left of the data flow imports anything on its right."""

import ast
from pathlib import Path

import latent_assay

ROOT = Path(latent_assay.__file__).parent

# Lowest first. A module may import from its own layer and from those above it in this list.
LAYERS = [
    ["errors", "atomic"],
    [
        "worlds",
        "metrics",
        "distributed",
        "kernels",
        "sparsifiers",
        "activations",
    ],
    ["extension", "sae", "batch", "initialisation", "checkpoint"],
    ["losses", "population", "formats", "theory"],
    ["history", "tracking", "optimizer", "training", "recipes"],
    ["measurement", "baselines"],
    ["evals"],
    ["plots", "report"],
    ["diagnosis"],
    ["runs", "reproductions"],
    ["cli", "__main__", ""],
]

# Imports that point up on purpose: (module, what it imports, why).
EXCEPTIONS = {("history", "plots"): "drawing is wanted only when `plot` is called"}

# A heavy dependency has one home each.
HOMES = {
    "transformers": {"activations"},
    "datasets": {"activations"},
    "huggingface_hub": {"formats"},
    "matplotlib": {"plots"},
    "wandb": {"tracking"},
    "tensorboard": {"tracking"},
    "sklearn": {"evals"},
    "nltk": {"evals"},
    "zstandard": {"evals"},
    "click": {"cli"},
    "jinja2": {"report"},
    "pydantic": {"runs"},
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def layer_of(module: str) -> int:
    best = max(
        (
            (len(prefix), number)
            for number, prefixes in enumerate(LAYERS)
            for prefix in prefixes
            if module == prefix or (prefix and module.startswith(prefix + "."))
        ),
        default=None,
    )
    assert best is not None, f"{module} stands in no layer; give it one in {__file__}"
    return best[1]


def imports(path: Path) -> set[str]:
    """What a file imports, wherever in the file; names of this package without its prefix."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; write the package's name"
            module = node.module or ""
            found.add(module)
            if module.split(".")[0] == "latent_assay":
                # `from latent_assay.worlds import World` may name a module or something in one
                found |= {
                    f"{module}.{alias.name}"
                    for alias in node.names
                    if f"{module}.{alias.name}".removeprefix("latent_assay.") in MODULES
                }
    return found


def test_imports_point_down():
    broken = []
    for module, path in MODULES.items():
        for name in imports(path):
            if name.split(".")[0] != "latent_assay":
                continue
            target = name.removeprefix("latent_assay").removeprefix(".")
            if target not in MODULES or not target or (module, target) in EXCEPTIONS:
                continue
            if layer_of(target) > layer_of(module):
                broken.append(f"{module} imports {target}, which stands above it")
    assert not broken, "\n".join(broken)


def test_exceptions_are_still_needed():
    for module, target in EXCEPTIONS:
        assert f"latent_assay.{target}" in imports(MODULES[module])


def test_heavy_dependencies_live_in_one_place():
    strays = [
        f"{module} imports {name}"
        for module, path in MODULES.items()
        for name in imports(path)
        if (home := HOMES.get(name.split(".")[0])) is not None and module.split(".")[0] not in home
    ]
    assert not strays, "\n".join(strays)


def test_packages_do_not_import_in_circles():
    edges = {
        module: {
            name.removeprefix("latent_assay.")
            for name in imports(path)
            if name.startswith("latent_assay.")
        }
        & set(MODULES) - {module}
        for module, path in MODULES.items()
        if path.name != "__init__.py"
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join((*trail, module))
        if module not in done:
            for target in edges.get(module, ()):
                visit(target, (*trail, module))
            done.add(module)

    for module in edges:
        visit(module, ())
