"""Hooks on a model's modules, for as long as a block lasts: to see a tensor, or to replace it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from latent_assay.activations.hook_points import Site
from latent_assay.errors import HookError, ShapeError


@contextmanager
def watching(
    modules: Mapping[str, nn.Module], sites: Iterable[Site], found: Callable[[Site, Tensor], None]
) -> Iterator[None]:
    """Within the block, `found(site, tensor)` is called whenever a site's tensor appears.

    **Arguments:**
    - `modules`: the model's modules by path.
    - `sites`: which tensors to see.
    - `found`: told of each; an error that it raises ends the forward pass.
    """

    def after(site: Site) -> Callable[..., None]:
        return lambda _, __, output: found(site, _first(output, str(site)))

    def before(site: Site) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            value = args if args else kwargs[_first_tensor_keyword(kwargs, str(site))]
            found(site, _first(value, str(site)))

        return hook

    handles = []
    try:
        for site in sites:
            module = modules[site.module]
            handles.append(
                module.register_forward_hook(after(site))
                if site.side == "output"
                else module.register_forward_pre_hook(before(site), with_kwargs=True)
            )
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def replacing(
    module: nn.Module, site: Site, hook_point: str, function: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """Within the block, the model goes on with `function(x)` where a module's tensor was `x`.

    **Arguments:**
    - `module`: the module.
    - `site`: whether it is its input or its output.
    - `hook_point`: what messages call it.
    - `function`: keeps the shape.

    **Raises:** `ShapeError`, during the forward pass, if the function changes the shape;
    `HookError` if there is no tensor there.
    """

    def substitute(tensor: Tensor) -> Tensor:
        new = function(tensor)
        if new.shape != tensor.shape:
            raise ShapeError(
                f"what replaces `{hook_point}` has shape {list(new.shape)}; expected "
                f"{list(tensor.shape)}, the shape of what it replaces."
            )
        return new.to(tensor)

    def after(_: nn.Module, __: Any, output: Any) -> Any:
        new = substitute(_first(output, hook_point))
        return new if isinstance(output, Tensor) else (new, *output[1:])

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (substitute(_first(args, hook_point)), *args[1:]), kwargs
        key = _first_tensor_keyword(kwargs, hook_point)
        return args, kwargs | {key: substitute(kwargs[key])}

    if site.side == "output":
        handle = module.register_forward_hook(after)
    else:
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _first(value: Any, hook_point: str) -> Tensor:
    """The tensor itself, or the first element of a tuple or list of outputs."""
    first = value[0] if isinstance(value, tuple | list) and value else value
    if isinstance(first, Tensor):
        return first
    raise HookError(
        f"`{hook_point}` gives a {type(first).__name__}; expected a tensor, or a tuple whose first "
        "element is one. Choose a module inside it."
    )


def _first_tensor_keyword(kwargs: dict[str, Any], hook_point: str) -> str:
    for key in ("hidden_states", *kwargs):
        if isinstance(kwargs.get(key), Tensor):
            return key
    raise HookError(f"`{hook_point}` is called without any tensor. Choose another module.")
