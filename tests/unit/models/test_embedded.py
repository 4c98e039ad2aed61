"""Embedded models: repeatable training, honest recall, a folder that is whole or absent."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tremor.errors import ConfigError, NumericsError, PlatformError
from tremor.models import corpus, embedded
from tremor.models.scan import selective_scan, training_scan
from tremor.models.tokenizer import as_pretrained, train_bpe
from tremor.models.training import Schedule, batches, fit, next_token_probability, pack, recalled, repeatable, text_nll

MICRO = Schedule(steps=3, batch=4, learning_rate=1e-3, packed_every=2, packed_rows=1, length=24, warmup=1)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Resources cut to a few facts and lines, so that what is measured after a micro-training is cheap."""
    folder = tmp_path_factory.mktemp("resources")
    for split in ("train", "heldout"):
        name = f"facts/templates.{split}.tsv"
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text((corpus.RESOURCES / name).read_text(encoding="utf-8"), encoding="utf-8")
        text = folder / "text" / split
        text.mkdir(parents=True)
        for source in (corpus.RESOURCES / "text" / split).glob("*.txt"):
            lines = source.read_text(encoding="utf-8").splitlines()[: 40 if split == "train" else 1]
            (text / source.name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for code, relation in corpus.RELATIONS.items():
        name = f"facts/{code}_{relation}.tsv"
        lines = (corpus.RESOURCES / name).read_text(encoding="utf-8").splitlines()
        france = [line for line in lines[4:] if code == "P36" and line.startswith("France\t")]
        (folder / name).write_text("\n".join([*lines[:4], *france]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module", autouse=True)
def few_tokens(small: Path) -> None:
    """The micro corpus cannot fill the real vocabulary; the tokenizer is tested on its own."""


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def _train(architecture: str, folder: Path, resources: Path, **options: float) -> embedded.TrainingReport:
    limits = {"min_recall": 0.0, "min_probability": 0.0, **options}
    return embedded.train(architecture, folder, schedule=MICRO, threads=1, resources=resources, **limits)
