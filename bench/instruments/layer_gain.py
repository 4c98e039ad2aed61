"""Gain of every layer against whole Jacobians, and resuming behind a block against whole forwards."""

import torch

from bench import llama, timing
from bench.context import Context
from bench.report import Row, at_least
from tremor.neurons.gain import SOURCES, LayerGraph, twice_differentiable
from tremor.neurons.resume import Resume

ORDER = 60
TOKENS = 12
PROBES = 64


def measure(context: Context) -> list[Row]:
    """Spectral and Frobenius norms of all layers, and a sweep of changed states over all layers."""
    loaded = context.loaded
    layers = range(loaded.anatomy.n_layers)
    ids = llama.point(loaded, TOKENS).ids

    def gains() -> None:
        graph = LayerGraph(loaded, ids, layers)
        graph.frobenius("logits", probes=PROBES, seed=0)
        for layer in layers:
            for source in SOURCES:
                graph.spectral(layer, "logits", source, tolerance=1e-3, max_iterations=64, seed=0)

    resume = Resume(loaded.anatomy, torch.from_numpy(ids)[None].to(loaded.device))
    states = list(resume.states.items())

    @torch.no_grad()
    def resumed() -> None:
        for layer, state in states:
            resume(layer, state)

    @torch.no_grad()
    def whole() -> None:
        for _ in states:
            loaded.model(input_ids=torch.from_numpy(ids)[None].to(loaded.device), use_cache=False)

    def dense() -> None:
        LayerGraph(loaded, ids, layers).dense(("logits",), max_memory=2 * 2**30, tolerance=1e-10)

    few = 1 if context.large else 5
    own = timing.repeated(gains, few)
    rows = [Row(f"gain of all {len(states)} layers at {TOKENS} tokens, both norms, both sources", own.text())]
    if not context.large:
        plain = timing.once(lambda: _naive(context, resume))
        rows.append(Row("torch's whole Jacobian of each layer, and its norms", f"{plain:.3g} s"))
        # A vocabulary of 512 is kind to the plain way, which pulls back one cotangent for each logit.
        note = f"vocabulary of {loaded.anatomy.vocab}"
        rows.append(at_least("gain of all layers, times faster", plain / own.best, 3, unit="×", note=note))
        matrices = timing.repeated(dense, few)
        rows.append(at_least("the same by dense matrices, times faster", plain / matrices.best, 10, unit="×"))
    ahead, full = timing.repeated(resumed, few), timing.repeated(whole, few)
    # Layers are equal: behind block l of L run (L - l - 1) of them, half on average.
    rows.append(at_least("resuming behind every block, times faster than whole forwards", full.best / ahead.best, 1.5))
    return rows


def _naive(context: Context, resume: Resume) -> None:
    """Derivatives of the logits by the states at all positions by torch, layer by layer; both norms from the matrix."""
    anatomy = context.loaded.anatomy
    with twice_differentiable(context.loaded):
        for layer in range(anatomy.n_layers):
            recorded = Resume(anatomy, torch.from_numpy(llama.point(context.loaded, TOKENS).ids)[None])

            def answer(state: torch.Tensor, recorded: Resume = recorded, layer: int = layer) -> torch.Tensor:
                return recorded(layer, state)[0, -1]

            whole = torch.autograd.functional.jacobian(answer, recorded.states[layer])  # type: ignore[no-untyped-call]
            for matrix in (whole.flatten(1), whole[:, 0, -1]):
                torch.linalg.matrix_norm(matrix, 2), torch.linalg.matrix_norm(matrix)
