"""Costs of recordings and what compares them, of weights read as matrices, and of training."""

import math

from tremor.estimate.situation import (
    FACT_TOKENS,
    QUESTIONS,
    RECORD_SECONDS,
    Entry,
    Situation,
)
from tremor.estimate.work import Pass, Work
from tremor.sizes import BYTES


def recording(s: Situation) -> Work:
    """Greedy decoding of every question, with the trial of the decoder before it."""
    own, platform = s.block("recorder"), s.block("platforms", s.job.wildcards["platform"])
    questions, batch = len(s.job.outputs), max(1, int(platform["batch"]))
    groups, steps, prompt = math.ceil(questions / batch), int(own["tokens"]), 14
    check = Pass(calls=4 * groups, rows=batch, tokens=prompt, logits=True)  # the decoder is tried before it is used
    if platform["decode"] == "uncached":
        run: tuple[Pass, ...] = (Pass(calls=groups * steps, rows=batch, tokens=prompt + steps / 2),)
    else:
        first = Pass(calls=groups, rows=batch, tokens=prompt)
        run = (first, Pass(calls=groups * (steps - 1), rows=batch, past=prompt + steps / 2, logits=True))
    taps = 2 if own["taps"] == "final" else s.shape.layers * 14
    disk = questions * (steps * (taps * s.shape.width * BYTES[s.dtype] * 0.35 + 400) + 50e3)
    return Work("model", (check, *run), evaluated=questions * steps, precision=s.dtype,
                plain=RECORD_SECONDS * questions * steps, disk=disk)  # fmt: skip


def compared(seconds: float) -> Entry:
    """A job that reads two recordings: so many seconds at 10 questions of 64 tokens and 4 layers of width 128."""

    def entry(s: Situation) -> Work:
        size = QUESTIONS * s.block("recorder")["tokens"] / 640 * s.shape.layers / 4 * s.shape.width / 128
        return Work("arrays", plain=seconds * (0.5 + 0.5 * size), read=1e6, disk=200e3)

    return entry


def unembedding(s: Situation) -> Work:
    """A copy of one matrix."""
    disk = s.shape.embedding * BYTES[s.dtype]
    return Work("model", (Pass(calls=0),), precision=s.dtype, plain=0.1, disk=0.9 * disk, extra_bytes=disk)


def kernels(s: Situation) -> Work:
    """Logits of recorded states, twice (exp8)."""
    rows = QUESTIONS * s.block("recorder")["tokens"]
    return Work("model", (Pass(calls=1, tokens=1),), dense=4.0 * rows * s.shape.embedding, plain=2.0, disk=3e6)


def chain(s: Situation) -> Work:
    """Products of matrices (exp10)."""
    own = s.block("exp10")
    flops = 2.0 * own["chain_dim"] ** 3 * own["chain_matrices"] * own["chain_repeats"] * len(own["chain_dtypes"])
    disk = 8.0 * own["chain_dim"] ** 2 * own["chain_matrices"] * len(own["chain_dtypes"]) / 4
    return Work("model", dense=flops, plain=0.2, disk=disk)


def sweeps(s: Situation) -> Work:
    """Steps through single matrices and an MLP (exp10)."""
    own = s.block("exp10")
    inputs = len(own["powers"]) + own["noise_samples"]
    return Work("model", (Pass(calls=inputs * 3, depth=1 / s.shape.layers),), evaluated=inputs * 3, plain=0.4)


def matrices(s: Situation) -> Work:
    """Singular values of every matrix (exp9)."""
    d, n, layers = s.shape.width, s.shape.inner, s.shape.layers
    svd = ((d, d, 3.0 * layers), (n, d, 3.0 * layers), (s.shape.vocab, d, 2.0))
    return Work("arrays", svd=svd, plain=0.3, read=4.0 * s.shape.parameters / max(1, layers), disk=200e3)


def components(s: Situation) -> Work:
    """A map of the weights of a model, from its anatomy."""
    return Work("model", (Pass(calls=1, tokens=4),), plain=0.1, disk=30e3)


STEPS = {"llama": 2000, "gpt2": 2200, "mamba": 1500}  # optimiser steps of the embedded models


def training(s: Situation) -> Work:
    """Four steps of 16 whole documents, and one of two packed rows of 128; then all facts are asked for."""
    architecture = str(s.graph.plain["models"][s.job.wildcards["model"]]["architecture"])
    steps = STEPS[architecture]
    short = Pass(calls=0.8 * steps, rows=16, tokens=15, backwards=0.8 * steps, logits=True)
    packed = Pass(calls=0.2 * steps, rows=2, tokens=128, backwards=0.2 * steps, logits=True)
    recall = Pass(calls=120, rows=64, tokens=FACT_TOKENS, logits=True)
    return Work(
        "model", (short, packed, recall), evaluated=steps, steps=steps, plain=4.0, disk=4.0 * s.shape.parameters
    )
