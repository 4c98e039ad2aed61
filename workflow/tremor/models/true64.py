"""True float64: a model in which nothing is rounded to less than float64 (design.md 5.5).

A transformers model cast with `.double()` still rounds to float32 in RMSNorm, RoPE, softmax, the routers, the
scan of a state-space model: their code asks for float32 by name. Here every module's forward runs in a mode in
which such a request means float64, and tables that were computed in float32 (the frequencies of RoPE, sines,
embedding scales) are computed again. Nothing is patched family by family, so an architecture nobody has seen
before is served as well; `true64_gate` decides whether a model may be called float64.

Autograd records what the forward did, so the backward pass is float64 too and needs no mode.

What this cannot serve, and what is then refused with a `NumericsError`:
    - tables that are no function of the config (random ones, ones edited after loading): not reproducible;
    - code that rounds where torch's Python interface is not asked: compiled or scripted functions, kernels of other
      packages, numpy. The audit or the gate finds them.

All families of tests/families.py pass. Falcon with ALiBi rounds its slopes to bfloat16 by intent: in float64 they
are the exact powers, so for head counts that are no power of two the function is another one by up to 2^-9 in a slope.
"""

import copy
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from tremor.errors import NumericsError
from tremor.models import loader
from tremor.models.anatomy import describe
from tremor.models.loader import LoadedModel

__all__ = ["convert", "install", "installed", "load", "narrow", "refusal", "widen", "widened"]

log = logging.getLogger(__name__)

_CASTS = frozenset({Tensor.float, Tensor.half, Tensor.bfloat16})
# These read the bits of a tensor as another type; a wider type would give other numbers.
_BIT_VIEWS = frozenset({Tensor.view, torch.frombuffer})
# A table of float32 sines of large angles is off by the angle's rounding, 2^-24 of some thousand: 1e-4 at most.
# A table that is another one altogether is off by much more than a thousandth of its largest entry.
_SAME_TABLE = 1e-3

_state = threading.local()  # like torch's stack of modes, whether the mode is on belongs to a thread


def narrow(dtype: torch.dtype) -> bool:
    """Whether a type is floating or complex and holds less than float64 does."""
    return (dtype.is_floating_point and dtype.itemsize < 8) or (dtype.is_complex and dtype.itemsize < 16)


def refusal(reason: str) -> NumericsError:
    """The one error of this mode; every message begins with the same words."""
    return NumericsError(f"this model may not be called float64: {reason}")


def _wide(value: Any) -> Any:
    if isinstance(value, torch.dtype) and narrow(value):
        return torch.complex128 if value.is_complex else torch.float64
    return value


def _wide_name(value: Any) -> Any:
    """`Tensor.type` also takes names and legacy classes: "torch.cuda.FloatTensor"."""
    if isinstance(value, type):
        value = f"{value.__module__}.{value.__name__}"
    if isinstance(value, str) and value.endswith((".FloatTensor", ".HalfTensor", ".BFloat16Tensor")):
        return torch.float64
    return _wide(value)


class _Widen(TorchFunctionMode):
    """While active, a request for a narrow floating type is one for float64."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _CASTS:
            return Tensor.double(*args, **kwargs)
        if func in _BIT_VIEWS:
            return func(*args, **kwargs)
        change = _wide_name if func is Tensor.type else _wide
        return func(*(change(a) for a in args), **{name: change(a) for name, a in kwargs.items()})


@contextmanager
def widened() -> Iterator[None]:
    """Inside the block, requests for narrow floating types mean float64, and so does the default type.

    May be nested; the process-wide default type returns when the outermost block ends, also after an exception.
    """
    if getattr(_state, "active", False):
        yield
        return
    default = torch.get_default_dtype()
    _state.active = True
    # Without a type, torch.tensor(0.5) and the quotient of two integers take the default one.
    torch.set_default_dtype(torch.float64)
    try:
        with _Widen():
            yield
    finally:
        torch.set_default_dtype(default)
        _state.active = False


class _WideForward:
    """Makes the forwards that run inside `widened`; one for each distinct original, so that copies of a model work."""

    mark = "_tremor_true64"

    @classmethod
    @functools.cache
    def of_class(cls, inner: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(inner)  # callers read the signature to see which arguments a model takes
        def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
            with widened():
                return inner(self, *args, **kwargs)

        forward.__dict__[cls.mark] = True
        return forward

    @classmethod
    def of_instance(cls, inner: Callable[..., Any]) -> Callable[..., Any]:
        """For a forward that something else (accelerate) has put on the instance; it is bound already."""

        @functools.wraps(inner)
        def forward(*args: Any, **kwargs: Any) -> Any:
            with widened():
                return inner(*args, **kwargs)

        forward.__dict__[cls.mark] = True
        return forward


def installed(module: nn.Module) -> bool:
    """Whether a module's forward runs in true float64."""
    return hasattr(module.__dict__.get("forward"), _WideForward.mark)


def _wrap(module: nn.Module, undo: ExitStack) -> None:
    # The wrapper sits on the instance: hooks, names of classes and other models stay as they are, and as a bound
    # method it follows a deepcopy of its module.
    attributes = module.__dict__
    if installed(module) or type(module).forward is nn.Module.forward:
        return
    if "forward" in attributes:
        before = attributes["forward"]
        attributes["forward"] = _WideForward.of_instance(before)
        undo.callback(attributes.__setitem__, "forward", before)
    else:
        attributes["forward"] = MethodType(_WideForward.of_class(type(module).forward), module)
        undo.callback(attributes.pop, "forward")


@contextmanager
def _meta_parameters() -> Iterator[None]:
    """Modules built inside the block get parameters without storage, but real buffers."""
    register = nn.Module.register_parameter

    @functools.wraps(register)
    def empty(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        register(self, name, None if param is None else nn.Parameter(param.detach().to("meta"), requires_grad=False))

    patched: Any = nn.Module
    patched.register_parameter = empty
    try:
        yield
    finally:
        patched.register_parameter = register


def _twin(model: PreTrainedModel) -> dict[str, nn.Module]:
    """The modules of the same architecture built again from the config, with every table in float64."""
    kind = type(model)
    try:
        with _meta_parameters(), torch.random.fork_rng(devices=[]), widened():
            fresh = kind(copy.deepcopy(model.config))
    except (RuntimeError, TypeError, ValueError, NotImplementedError, AttributeError) as error:
        raise refusal(f"{kind.__name__} cannot be built again from its config to widen its tables ({error})") from error
    return dict(fresh.named_modules())


def _tables(module: nn.Module) -> Iterator[tuple[dict[str, Any], str]]:
    """Where a module keeps floating tensors that are no weights: unsaved buffers, and plain attributes."""
    for name, buffer in module._buffers.items():
        if isinstance(buffer, Tensor) and buffer.is_floating_point() and name in module._non_persistent_buffers_set:
            yield module._buffers, name
    for name, value in module.__dict__.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            yield module.__dict__, name


def _remembers(module: nn.Module) -> bool:
    """Whether a rotation changes its table with the prompts it meets (transformers' `dynamic_rope_update`)."""
    kind: Any = getattr(module, "rope_type", None)
    kinds = kind.values() if isinstance(kind, dict) else (kind,)
    return any(isinstance(k, str) and ("dynamic" in k or k == "longrope") for k in kinds)


def _set(where: dict[str, Any], name: str, value: Any, undo: ExitStack) -> None:
    undo.callback(where.__setitem__, name, where[name])
    where[name] = value


def _recompute(model: PreTrainedModel, undo: ExitStack) -> None:
    """Replace every table by the same table computed in float64."""
    todo = [(path, module, *place) for path, module in model.named_modules() for place in _tables(module)]
    twins = _twin(model) if todo else {}
    for path, module, where, name in todo:
        twin = twins.get(path)
        old: Tensor = where[name]
        new = None if twin is None else getattr(twin, name, None)
        if new is None and _remembers(module):
            del where[name]  # kept from an earlier forward; the next one makes it again
            undo.callback(where.__setitem__, name, old)
            continue
        what = f"table '{path}.{name}' of {type(model).__name__}"
        if not isinstance(new, Tensor) or new.is_meta or new.shape != old.shape:
            raise refusal(f"{what} cannot be computed again from the config; set its dtype to float32")
        wide = new.detach().to(device=old.device, dtype=torch.float64)
        error = (old.double() - wide).abs()
        same = bool((error <= _SAME_TABLE * wide.abs().max()).all())  # False also where one is NaN
        if not same and not _remembers(module):
            raise refusal(
                f"{what} is not the one its config describes (they differ by {float(error.max()):.3g}); "
                "load the model again, or set its dtype to float32"
            )
        _set(where, name, wide, undo)
    for path, module in model.named_modules():
        if path in twins and _remembers(module):  # the longest prompt so far belongs to the old table
            for name in [n for n in module.__dict__ if n.endswith("max_seq_len_cached")]:
                _set(module.__dict__, name, getattr(twins[path], name), undo)


def install(model: PreTrainedModel) -> ExitStack:
    """Make a model true float64, in place.

    Weights and saved buffers are cast (exactly); tables are computed again; every forward runs inside `widened`.

    Args:
        model: Any transformers model in eval mode. A model that is true float64 already stays as it is.

    Returns:
        What takes the wrappers and tables away again when closed; weights stay float64.

    Raises:
        NumericsError: If a table cannot be computed again; the model's forwards and tables are then as before.
    """
    undo = ExitStack()
    if installed(model):
        return undo
    with ExitStack() as guard:
        _recompute(model, guard)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(_wide(parameter.dtype))
        for module in model.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = buffer.to(_wide(buffer.dtype))
            _wrap(module, guard)
        model.config.dtype = torch.float64
        undo = guard.pop_all()
    return undo


def _finished(loaded: LoadedModel, model: PreTrainedModel) -> LoadedModel:
    install(model)
    anatomy = describe(model)
    return replace(loaded, model=model, anatomy=anatomy, dtype=torch.float64)


def convert(loaded: LoadedModel) -> LoadedModel:
    """A true-float64 copy of a model; the model itself is left alone.

    Args:
        loaded: A loaded model of any dtype, on one device. Its weights are widened exactly as they are: a bfloat16
            model gives the bfloat16 weights in float64 arithmetic.

    Returns:
        The copy, with its own anatomy. It takes and gives float64 everywhere.

    Raises:
        NumericsError: If it may not be called float64.
    """
    if getattr(loaded.model, "hf_device_map", None) is not None:
        raise refusal("it is spread over several devices and cannot be copied; use true64.load instead")
    return _finished(loaded, copy.deepcopy(loaded.model))


def widen(loaded: LoadedModel) -> LoadedModel:
    """Make a model true float64 in place: where a copy would not fit beside it.

    Args:
        loaded: A loaded model of any dtype; its weights are widened exactly as they are. It must not be used again.

    Returns:
        The same model, with its new anatomy and type.

    Raises:
        NumericsError: If it may not be called float64.
    """
    return _finished(loaded, loaded.model)


def load(
    directory: Path,
    *,
    device: str = "auto",
    attention: str = "auto",
    max_memory: Mapping[int | str, int | str] | None = None,
    digest: str | None = None,
) -> LoadedModel:
    """Load a model in true float64; options and errors as in `loader.load`.

    Args:
        directory: The model's folder.
        device: "auto", "cpu" or "cuda" (also "cuda:<n>").
        attention: "eager", "sdpa" or "auto".
        max_memory: Device to memory, to spread a model over several devices.
        digest: Digest over the weight files if it is known already.

    Returns:
        The model; its dtype is float64. Eight bytes a weight.

    Raises:
        NumericsError: If it may not be called float64.
    """
    loaded = loader.load(
        directory, dtype="float64", device=device, attention=attention, max_memory=max_memory, digest=digest
    )
    log.info("%s runs in true float64", type(loaded.model).__name__)
    return _finished(loaded, loaded.model)
