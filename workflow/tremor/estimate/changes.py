"""Costs of scores, of changed weights and units, and of what is judged under each change."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from tremor.estimate import situation
from tremor.estimate.answers import jacobian, share
from tremor.estimate.situation import (
    CONTROL_CALLS,
    FACT_TOKENS,
    LANCZOS_STEPS,
    PASSAGE_TOKENS,
    PRODUCTS_A_TENSOR,
    TAIL_CALLS,
    WORDINGS,
    Situation,
    count,
)
from tremor.estimate.work import Pass, Work
from tremor.sizes import BYTES, copies


def layer_gain(s: Situation) -> Work:
    """Leading singular values and norms of every layer, finite differences (delta/jacobian)."""
    own = s.block("delta", "jacobian")
    layers = s.shape.layers if own["layers"] == "all" else len(own["layers"])
    texts, targets = own["gain_texts"], len(own["targets"])
    products = texts * layers * targets * 2 * LANCZOS_STEPS if own["method"] == "lanczos" else texts * s.shape.width
    probes = texts * targets * math.ceil(own["probes"] / 32)
    kept = Pass(calls=products, backwards=products, tokens=FACT_TOKENS / 2, depth=0.5)
    sweep = Pass(calls=0, backwards=probes, backward_rows=32, tokens=FACT_TOKENS / 2)
    moved = Pass(calls=own["sensitivity_texts"] * layers * 3, rows=own["draws"], tokens=FACT_TOKENS / 2, depth=0.5)
    clean = Pass(calls=own["num_texts"] + own["sensitivity_texts"], tokens=FACT_TOKENS / 2)
    return Work("model", (kept, sweep, moved, clean), evaluated=products, precision=s.dtype, plain=0.5, disk=150e3)


def sentences(s: Situation) -> float:
    """Sentences that an ablation is judged by."""
    own = s.block("delta", "facts")
    return float(len(own["relations"]) * own["facts"] * WORDINGS + own["other"])


def places(s: Situation) -> int:
    """Taps whose units are chosen."""
    own = s.block("delta", "neurons")
    layers = s.shape.layers if own["layers"] == "all" else len(own["layers"])
    return layers * (len(own["taps"]) + (len(own["state_space_taps"]) if s.shape.scan else 0))


def judged(s: Situation, times: float, *, depth: float = 1.0) -> Pass:
    """All sentences, so many times."""
    room = s.block("delta", "facts")["batch_tokens"]
    rows = max(1, room // FACT_TOKENS)
    return Pass(calls=times * math.ceil(sentences(s) / rows), rows=rows, tokens=FACT_TOKENS, depth=depth, logits=True)


def choices(s: Situation) -> Work:
    """Scores of the units at every place (delta)."""
    own = s.block("delta", "neurons")
    clean = judged(s, 1.0)
    gradients = {"gradient": 1.0, "integrated": float(own["integration_steps"]), "effect": 0.0}
    sweeps_ = sum(gradients.get(name, 0.0) for name in own["selectors"])
    passes = [clean, Pass(clean.calls * sweeps_, clean.rows, clean.tokens, backwards=clean.calls * sweeps_)]
    if "effect" in own["selectors"]:
        passes.append(judged(s, places(s) * float(own["candidates"] or s.shape.width), depth=0.5))
    return Work("model", tuple(passes), evaluated=sentences(s), precision=s.dtype, plain=0.3, disk=300e3)


def ablations(s: Situation) -> Work:
    """Every choice and every random set, judged (delta)."""
    own = s.block("delta", "neurons")
    relations = len(s.block("delta", "facts")["relations"])
    sets = places(s) * (len(own["selectors"]) * relations + s.block("delta", "percentage")["controls"])
    return Work("model", (judged(s, 1.0), judged(s, sets, depth=0.7)), evaluated=sets * sentences(s),
                precision=s.dtype, plain=0.5 + 2e-3 * sets, disk=sets * sentences(s) * 8)  # fmt: skip


def tracing(s: Situation) -> Work:
    """States put back one by one (delta/tracing)."""
    own = s.block("delta", "tracing")
    facts = own["facts"] * len(own["relations"])
    layers = s.shape.layers if own["layers"] == "all" else len(own["layers"])
    kinds = len(own["kinds"]) - (1 if s.shape.scan and "mlp" in own["kinds"] else 0)
    states_ = facts * layers * kinds * FACT_TOKENS / 2
    run = Pass(calls=states_, rows=own["draws"], tokens=FACT_TOKENS / 2, depth=0.5, logits=True)
    return Work("model", (run, judged(s, 1.0)), evaluated=states_ * own["draws"], plain=0.5, disk=200 * states_)


SCORE_PASSES: Mapping[str, tuple[float, float]] = {  # forwards and backwards of a text, by score
    "taylor_signed": (1, 1), "taylor_abs": (1, 1), "grad_squared": (1, 1), "fisher_token": (1, PASSAGE_TOKENS),
    "fisher_true": (1, 1), "wanda": (1, 0), "activation_spike": (1, 0), "obs_diag": (1, 0),
}  # fmt: skip


def scoring(s: Situation, methods: Any, texts: int, options: Mapping[str, Any], *, shared: bool = True) -> list[Pass]:
    """Passes of the scores of some methods; those of the same gradients are made once where they are shared."""
    forwards = backwards = 0.0
    groups: dict[tuple[float, float], int] = {}
    for name in methods:
        if name in SCORE_PASSES:
            groups[SCORE_PASSES[name]] = groups.get(SCORE_PASSES[name], 0) + 1
    for (f, b), number in groups.items():
        forwards += f * (1 if shared else number)
        backwards += b * (1 if shared else number)
    passes = [Pass(calls=texts * forwards, tokens=PASSAGE_TOKENS, backwards=texts * backwards, logits=True)]
    hessian = [name for name in methods if name in ("hutchinson", "obd")]
    if hessian:
        # A product with the Hessian is one backward through the kept graph of the gradient.
        probes = options["probes"] * (1 if shared else len(hessian)) * texts
        passes.append(Pass(calls=texts, tokens=PASSAGE_TOKENS, backwards=probes, logits=True))
    if "weight_ig" in methods:
        steps = options["steps"] * texts
        passes.append(Pass(calls=steps, tokens=PASSAGE_TOKENS, backwards=steps, logits=True))
    return passes


def held(s: Situation, methods: Iterable[str] = (), *, ordered: bool = False, changed: bool = False) -> float:
    """Bytes beside the model where weights are scored or changed, see :func:`tremor.sizes.copies`."""
    return 4.0 * s.shape.parameters * copies(methods, ordered=ordered, changed=changed)


def evaluating(sets: float, texts: int, batch: int) -> Pass:
    """The likelihood of some texts, once for each changed model."""
    rows = min(texts, batch)
    return Pass(calls=sets * math.ceil(texts / batch), rows=rows, tokens=PASSAGE_TOKENS, logits=True)


def critical_rankings(s: Situation, *, times: float = 1.0) -> Work:
    """Scores of all weights by every metric; a shard runs every pass, and ranks its own tensors only."""
    own = s.block("critical_weights")
    texts = 70 if own["calibration"] is None else int(own["calibration"])
    passes = [_more(p, times) for p in scoring(s, own["metrics"], texts, own["scores"])]
    scanned = times * len(own["metrics"]) * s.shape.parameters * share(s)
    return Work("model", tuple(passes), evaluated=texts, plain=0.5 + 0.2e-6 * scanned, disk=4e6 * share(s),
                extra_bytes=held(s, own["metrics"]) * share(s))  # fmt: skip


def _more(each: Pass, times: float) -> Pass:
    return Pass(each.calls * times, each.rows, each.tokens, each.backwards * times, each.backward_rows, logits=True)


def critical_weights(s: Situation) -> Work:
    """Every dose of every ranking, and its random controls, or a shard's share of them."""
    own = s.block("critical_weights")
    doses = {max(1, round(ratio * k)) for k in own["topk"] for ratio in own["mask_ratios"]}
    controlled = {max(1, round(ratio * k)) for k in own["topk"] for ratio in own["control_ratios"]}
    sets = share(s) * len(own["metrics"]) * (len(doses) + len(own["topk"]) + own["controls"] * len(controlled))
    texts = 42 if own["texts"] is None else int(own["texts"])
    run = evaluating(1 + sets, texts, own["batch_size"])
    return Work("model", (run,), evaluated=sets * texts, precision=s.dtype, plain=1.0 + 3e-3 * sets, disk=2e6)


def critical_stability(s: Situation) -> Work:
    """The rankings again, for each seed."""
    return critical_rankings(s, times=float(len(s.block("critical_weights")["stability_seeds"])))


def super_weight_scores(s: Situation) -> Work:
    """All scores; a shard runs every pass, and ranks its own tensors only."""
    methods = s.block("esa", "super_weights")["methods"]
    return Work("model", gradients(s, methods), evaluated=s.block("esa", "texts")["calibration"], plain=0.5, disk=100e3,
                extra_bytes=held(s, methods) * share(s))  # fmt: skip


def super_weights(s: Situation, *, scored: bool = False) -> Work:
    """All scores, unless shards have made them, and the effect of what each names."""
    own, texts = s.block("esa", "super_weights"), s.block("esa", "texts")
    passes = () if scored else gradients(s, own["methods"])
    sets = _named(own, len(own["methods"]))
    found = evaluating(1 + sets, texts["heldout"], texts["batch_size"])
    spikes = Pass(calls=own["prompts"] * 4, tokens=PASSAGE_TOKENS)
    return Work("model", (*passes, found, spikes), evaluated=sets * texts["heldout"], plain=1.0, disk=300e3,
                extra_bytes=held(s, () if scored else own["methods"], changed=True))  # fmt: skip


def _named(own: Mapping[str, Any], methods: int) -> float:
    """Changed models of esa/super-weights: removed, scaled, held out of quantisation, and controls."""
    grids = len(own["grids"]) * len(own["groups"])
    return float(methods * (2 + own["controls"] + len(own["factors"]) + grids) + grids)


def compare_sensitivity(s: Situation) -> Work:
    """Every score by itself."""
    own, texts = s.block("esa", "compare_sensitivity"), s.block("esa", "texts")
    passes = scoring(s, own["methods"], texts["calibration"], s.block("esa", "scores"), shared=False)
    return Work("model", tuple(passes), evaluated=texts["calibration"], plain=2.0 * share(s), disk=600e3 * share(s),
                extra_bytes=held(s, own["methods"]) * share(s))  # fmt: skip


def changed(
    s: Situation,
    sets: float,
    *,
    seconds: float = 1.0,
    generic: bool = False,
    more: tuple[Pass, ...] = (),
    beside: float = 0.0,
) -> Work:
    """Held-out texts of esa under so many changes of the weights, and what else runs."""
    texts = s.block("esa", "texts")
    run = evaluating(1 + sets, texts["heldout"], texts["batch_size"])
    return Work("model", (run, *more), evaluated=sets * texts["heldout"], precision=s.dtype,
                plain=seconds + 3e-3 * sets, disk=200e3 + 500 * sets, generic=generic, extra_bytes=beside)  # fmt: skip


def gradients(s: Situation, methods: Any) -> tuple[Pass, ...]:
    """Scores of some methods on the calibration texts of esa."""
    return tuple(scoring(s, methods, s.block("esa", "texts")["calibration"], s.block("esa", "scores")))


def parts(s: Situation, layers: Any) -> float:
    """Parts of a model that are ablated: branches and matrices of each block."""
    return count(layers, s.shape.layers) * (2.0 + PRODUCTS_A_TENSOR)


def esa_sensitivity(s: Situation) -> Work:
    """Parts and heads left out one by one."""
    own = s.block("esa", "sensitivity")
    heads = count(own["layers"], s.shape.layers) * s.shape.heads if own["heads"] and not s.shape.scan else 0
    return changed(s, len(own["modes"]) * (parts(s, own["layers"]) + heads))


def esa_targeted(s: Situation) -> Work:
    """Fractions of the best weights, and controls, or a shard's share of them."""
    own = s.block("esa", "targeted_perturbation")
    large = sum(1 for fraction in own["fractions"] if fraction >= own["large"])
    controls = (len(own["fractions"]) - large) * (1 + own["controls"]) + large * (1 + own["controls_large"])
    sets = len(own["scores"]) * len(own["operations"]) * controls * share(s)
    return changed(s, sets, more=gradients(s, own["scores"]), beside=held(s, own["scores"], ordered=True))


def esa_selective(s: Situation) -> Work:
    """Selections and fills, controls, and texts written with them."""
    own = s.block("esa", "selective_weight_pruning")
    named = own["select"] or list(own["selections"])
    sets = len(named) * len(own["fills"])
    scores = {own["selections"][name]["score"] for name in named}
    written = generating(len(own["prompts"]) * (1 + sets), 24)
    passes = (*gradients(s, scores), written)
    return changed(s, sets * (1 + own["controls"]), more=passes, beside=held(s, scores, ordered=True))


def esa_pruning(s: Situation) -> Work:
    """Every score, grouping and sparsity."""
    own = s.block("esa", "pruning")
    sets = len(own["scores"]) * (len(own["groups"]) * len(own["sparsities"]) + len(own["patterns"]))
    return changed(s, sets, seconds=2.0 + 0.2e-6 * sets * s.shape.parameters, more=gradients(s, own["scores"]),
                   beside=held(s, own["scores"], ordered=True))  # fmt: skip


def esa_robustness(s: Situation) -> Work:
    """Draws of noise of every kind and level, or a shard's share of them."""
    own = s.block("esa", "robustness")
    sets = len(own["kinds"]) * len(own["levels"]) * own["draws"] * share(s)
    scores = [own["score"]] if "targeted" in own["kinds"] else []
    return changed(s, sets, seconds=1.0 + 0.05e-6 * sets * s.shape.parameters, more=gradients(s, scores),
                   beside=held(s, scores, changed=True))  # fmt: skip


def esa_adversarial(s: Situation) -> Work:
    """Attacks on the input: steps with a gradient, and trials of candidates. A rough count."""
    own = s.block("esa", "adversarial")
    steps = len(own["epsilons"]) * (1 + own["steps"])
    trials = len(own["attacks"]) * sum(own["edits"]) * (own["candidates"] + own["draws"])
    facts = float(own["facts"])
    run = Pass(calls=facts * (steps + trials), tokens=FACT_TOKENS, backwards=facts * (steps + sum(own["edits"])),
               logits=True)  # fmt: skip
    return changed(s, 0, generic=True, more=(run,))


def esa_bits(s: Situation) -> Work:
    """Flips of every bit of some weights, searches for the worst, and coarser grids. A rough count."""
    own = s.block("esa", "bit_level")
    bits = sum(8 * BYTES[name] for name in own["formats"]) * own["weights"]
    searched = len(own["attacks"]) * own["max_flips"] * (own["candidates"] + own["draws"])
    sets = bits + searched + len(own["mantissa"]) + len(own["grids"])
    back = Pass(calls=len(own["attacks"]) * own["max_flips"], rows=own["attack_texts"], tokens=PASSAGE_TOKENS,
                backwards=len(own["attacks"]) * own["max_flips"], logits=True)  # fmt: skip
    return changed(s, sets, generic=True, more=(back,), beside=held(s, changed=True))


def generating(prompts: float, tokens: int) -> Pass:
    """Texts written token by token behind a cache."""
    return Pass(calls=prompts * tokens, past=8 + tokens / 2, logits=True)


def esa_evaluate(s: Situation) -> Work:
    """Held-out texts and texts written by the model."""
    own = s.block("esa", "evaluate")
    texts = 42 if own["texts"] is None else int(own["texts"])
    written = generating(len(own["prompts"]) * (1 + own["samples"]), own["tokens"])
    run = evaluating(1, texts, own["batch_size"])
    return Work("model", (run, written), evaluated=texts, precision=s.dtype, plain=1.0, generic=bool(own["tasks"]))


def esa_train(s: Situation) -> Work:
    """Steps of an optimiser, and checkpoints."""
    own = s.block("esa", "train")
    step = Pass(calls=own["steps"], rows=own["batch"], tokens=own["length"], backwards=own["steps"], logits=True)
    saved = 4.0 * s.shape.parameters * (1 + own["steps"] // max(1, own["checkpoint"] or own["steps"]))
    return Work("model", (step,), evaluated=own["steps"], steps=own["steps"], plain=1.0, disk=saved)


def esa_attribution(s: Situation) -> Work:
    """Shares of the tuning's change, added part by part in several orders. A rough count."""
    own = s.block("esa", "attribution")
    return changed(s, own["orders"] * 2 * s.shape.layers, seconds=1.0 + 1e-4 * own["permutations"], generic=True)


def tuned_super_weights(s: Situation) -> Work:
    """Some scores again, on the tuned model."""
    own = s.block("esa", "super_weights")
    methods = s.block("esa", "integrated")["tuned_methods"] or own["methods"]
    beside = held(s, methods, changed=True)
    return changed(s, _named(own, len(methods)), more=gradients(s, methods), beside=beside)


def cross(s: Situation) -> Work:
    """A spectrum, a noise floor, a boundary and a likelihood for every changed model. A rough count."""
    own = s.block("cross")
    scores = 5 if own["scores"] == "auto" else len(own["scores"])
    sets = scores * len(own["topk"]) * len(own["operations"]) + own["controls"] + own["deep_controls"]
    passes, svd = jacobian(s, times=sets)
    inputs = own["angles"] * situation.RAY_INPUTS + own["noise_samples"]
    rows = own["batch_size"] if isinstance(own["batch_size"], int) else s.batch
    probe = Pass(calls=sets * (CONTROL_CALLS + TAIL_CALLS + math.ceil(inputs / rows)), rows=rows, past=s.tokens - 1)
    text = evaluating(1 + sets, own["texts"], own["text_batch_size"])
    return Work("model", (*passes, probe, text), svd=svd, evaluated=sets * inputs, plain=2.0 + 0.02 * sets, disk=2e6,
                generic=True)  # fmt: skip
