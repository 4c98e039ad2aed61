"""Scores from the inputs of linear layers: Wanda, and the diagonal of optimal brain surgeon as SparseGPT uses it.

With X [tokens, in] the inputs of a layer y = x W^T over all texts, each text by itself and so without padding:

    wanda      |W_ij| sqrt(mean_t X_tj^2)           (Sun et al. 2023; their norm over tokens, divided by sqrt(tokens))
    obs_diag   W_ij^2 / [(X^T X / tokens + d I)^-1]_jj

The latter is the rise of the layer's mean squared output error when W_ij is removed and the rest of its row makes up
for it in the best way (Hassibi and Stork 1992; Frantar and Alistarh 2023), but for d = dampening * mean of the Gram
matrix' diagonal.
"""

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tremor.errors import NumericsError
from tremor.models.anatomy import Anatomy, Slice
from tremor.models.anatomy_projections import is_linear
from tremor.progress import track
from tremor.weights.quality import Terms
from tremor.weights.scores.base import Scored, Task, wide
from tremor.weights.select import Selection

_LOG = logging.getLogger(__name__)
GRAM_BYTES = 4 * 2**30  # Gram matrices held at once; more take further passes over the texts


def linears(selection: Selection) -> dict[str, list[nn.Module]]:
    """Linear modules by the selected weight they multiply with; several where a weight is tied."""
    owners: dict[nn.Parameter, list[nn.Module]] = {}
    for module in selection.anatomy.model.modules():
        if is_linear(module):
            weight = module.weight
            assert isinstance(weight, nn.Parameter)
            owners.setdefault(weight, []).append(module)
    return {name: owners[p] for name, p in selection.parameters() if p in owners}


def _inputs(name: str, module: nn.Module) -> int:
    """Number of input features of a linear module."""
    shape = module.weight.shape
    return int(shape[1] if isinstance(module, nn.Linear) else shape[0])  # type: ignore[index]


def observe(task: Task, modules: dict[str, list[nn.Module]], take: Callable[[str, Tensor], None]) -> list[str]:
    """Run all texts and hand on what the modules are given.

    Args:
        task: The job; its texts are run one by one.
        modules: From :func:`linears`.
        take: Called with a weight's name and inputs [tokens, in], at least float32.

    Returns:
        The names whose modules were never called, because the model's code uses their weight by itself (dt_proj of
        Mamba), a fused kernel goes around them, or no token chose that expert.

    Raises:
        NumericsError: No module was called in a job that scores all tensors, or an input is not finite.
    """
    if not modules:  # none of them is this job's
        return []
    called: set[str] = set()

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            given = wide(args[0].detach()).reshape(-1, args[0].shape[-1])
            if not bool(torch.isfinite(given).all()):
                raise NumericsError(f"an input of {name} is NaN or infinite; use a wider dtype")
            called.add(name)
            take(name, given)

        return hook

    handles = [m.register_forward_pre_hook(watch(name)) for name, found in modules.items() for m in found]
    try:
        with torch.no_grad():
            for ids in track(task.sequences, "texts"):
                task.loaded.model(input_ids=ids[None], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    if not called and task.mine is None:
        raise NumericsError(f"{next(iter(modules))} and the others were never called: a fused kernel goes around them")
    return [name for name in modules if name not in called]


def _scored(task: Task, score: str, among: Collection[str] | None = None) -> dict[str, list[nn.Module]]:
    """Modules of the weights that a score is defined for and that this job scores; the other weights are noted."""
    modules = {n: found for n, found in linears(task.selection).items() if among is None or n in among}
    left_out = [name for name in task.selection.tensors if name not in modules and task.scores(name)]
    task.terms[score] = Terms({"left_out": left_out, "unused": []})
    task.selection.only(modules)  # refuses a selection without any linear layer
    return {name: found for name, found in modules.items() if task.scores(name)}


def _leave_out(task: Task, score: str, modules: dict[str, list[nn.Module]], unused: list[str]) -> list[str]:
    """Names of the modules that were seen; the others are noted."""
    lists = task.terms[score].lists
    task.terms[score] = Terms({**lists, "unused": [*lists["unused"], *unused]})
    if unused:
        _LOG.info(
            "%s is not defined for %d weights whose module is never called: %s ...", score, len(unused), unused[0]
        )
    return [name for name in modules if name not in unused]


def _spread(task: Task, name: str, factors: Tensor) -> Tensor:
    """Factors [in] along the input axis of a weight."""
    axis = -2 if task.selection.chosen[name].layout.transposed else -1
    return factors.unsqueeze(-1) if axis == -2 else factors


def wanda(task: Task) -> Iterator[Scored]:
    """|W| times the root mean square of its input feature, of weights that a linear layer multiplies with."""
    modules = _scored(task, "wanda")
    squares: dict[str, Tensor] = {}
    tokens: dict[str, int] = {}

    def take(name: str, given: Tensor) -> None:
        total = given.square().sum(0, dtype=torch.float64)
        squares[name] = squares[name] + total if name in squares else total
        tokens[name] = tokens.get(name, 0) + len(given)

    for name in _leave_out(task, "wanda", modules, observe(task, modules, take)):
        weight = wide(task.selection.anatomy.parameter(name).detach())
        yield name, weight.abs() * _spread(task, name, (squares[name] / tokens[name]).sqrt()).to(weight)


def comparable(task: Task) -> Selection:
    """The part of the selection that every score is defined for: weights that a linear layer multiplies with."""
    modules = linears(task.selection)
    task.selection.only(modules)
    unused = observe(replace(task, sequences=task.sequences[:1]), modules, lambda name, given: None)
    return task.selection.only([name for name in modules if name not in unused])


def writers_of(anatomy: Anatomy) -> list[Slice]:
    """Of each block the projection that writes last into the residual stream: the MLP's, or the mixer's without MLP."""
    found = [part.down or part.o for part in anatomy.block_parts]
    return [part for part in found if part is not None]


def activation_spike(task: Task) -> Iterator[Scored]:
    """|W_ij| max_t |X_tj|, the largest share one weight has in an output, for projections into the residual stream.

    A super weight is one for which this alone makes the output's spike (Yu et al. 2024); the procedure that finds
    them one after the other is in `tremor.weights.spikes`.
    """
    writers = {part.parameter for part in writers_of(task.selection.anatomy)}
    modules = _scored(task, "activation_spike", writers)
    peaks: dict[str, Tensor] = {}

    def take(name: str, given: Tensor) -> None:
        peak = given.abs().amax(0)
        peaks[name] = torch.maximum(peaks[name], peak) if name in peaks else peak

    for name in _leave_out(task, "activation_spike", modules, observe(task, modules, take)):
        weight = wide(task.selection.anatomy.parameter(name).detach())
        yield name, weight.abs() * _spread(task, name, peaks[name]).to(weight)


def obs_diag(task: Task) -> Iterator[Scored]:
    """W_ij^2 over the diagonal of the inverse Gram matrix of the layer's inputs, dampened."""
    modules = _scored(task, "obs_diag")
    for group in _groups(modules):
        grams: dict[str, Tensor] = {}
        tokens: dict[str, int] = {}

        def take(name: str, given: Tensor, grams: dict[str, Tensor] = grams, tokens: dict[str, int] = tokens) -> None:
            # Float64: with fewer tokens than features the inverse sees nothing but the dampening and the rounding.
            wider = given.double()
            grams[name] = grams[name].addmm_(wider.T, wider) if name in grams else wider.T @ wider
            tokens[name] = tokens.get(name, 0) + len(given)

        for name in _leave_out(task, "obs_diag", group, observe(task, group, take)):
            gram = grams.pop(name).div_(tokens[name])
            weight = wide(task.selection.anatomy.parameter(name).detach())
            inverse = inverse_diagonal(gram, task.options.dampening, name)
            yield name, weight.square() / _spread(task, name, inverse).to(weight)


def inverse_diagonal(gram: Tensor, dampening: float, name: str) -> Tensor:
    """Diagonal [n] of the inverse of gram + dampening * mean(diagonal) * I; gram [n, n] float64 is overwritten.

    Raises:
        NumericsError: The matrix is singular: too few tokens for a dampening this small.
    """
    gram.diagonal().add_(dampening * gram.diagonal().mean())
    lower, info = torch.linalg.cholesky_ex(gram)
    if int(info):
        raise NumericsError(f"the Gram matrix of the inputs of {name} is singular; give more text or more dampening")
    return torch.cholesky_inverse(lower).diagonal()


def _groups(modules: dict[str, list[nn.Module]]) -> Iterator[dict[str, list[nn.Module]]]:
    """Runs of modules whose Gram matrices fit into memory together."""
    group: dict[str, list[nn.Module]] = {}
    size = 0
    for name, found in modules.items():
        need = 8 * _inputs(name, found[0]) ** 2
        if group and size + need > GRAM_BYTES:
            yield group
            group, size = {}, 0
        group[name] = found
        size += need
    yield group
