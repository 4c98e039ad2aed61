"""A loaded model as lm-evaluation-harness sees one, for task files with local data; the harness is an optional package.

One request at a time (batch size 1): the likelihoods are those of `nll.evaluate` with the begin token always read, and
of its windows with an overlap of one token, which is the harness' own rolling log-likelihood.
"""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tremor.errors import ConfigError, PlatformError
from tremor.evaluate.continuation import continuation, rolling
from tremor.evaluate.generation import generate
from tremor.evaluate.tasks import read_task
from tremor.models.loader import LoadedModel

HINT = "install the optional extra with 'pip install lm-eval' (0.4.9 or newer), or empty esa.evaluate.tasks"
SEED = 1234


def run(loaded: LoadedModel, paths: Sequence[Path], *, limit: int | None = None) -> list[dict[str, Any]]:
    """Run task files.

    Args:
        loaded: The model.
        paths: YAML files.
        limit: Most documents of each task; None for all.

    Returns:
        One row for each task and metric: `task`, `metric`, `filter`, `value`, `stderr` (None without), `documents`.

    Raises:
        PlatformError: The harness is not installed.
        ConfigError: A task cannot be read or run.
    """
    tasks = [read_task(Path(path)) for path in paths]
    os.environ["HF_DATASETS_OFFLINE"] = "1"  # read when datasets is imported
    try:
        evaluator = importlib.import_module("lm_eval.evaluator")
        manager = importlib.import_module("lm_eval.tasks").TaskManager(include_defaults=False)
    except ImportError as error:
        raise PlatformError(f"esa.evaluate.tasks needs the package lm_eval ({error}); {HINT}") from error
    try:
        found = evaluator.simple_evaluate(
            model=_model(loaded),
            tasks=list(tasks),
            limit=limit,
            task_manager=manager,
            bootstrap_iters=0,
            log_samples=False,
            random_seed=SEED,
            numpy_random_seed=SEED,
            torch_random_seed=SEED,
            fewshot_random_seed=SEED,
        )
    except (KeyError, ValueError, TypeError) as error:
        names = ", ".join(str(path) for path in paths)
        raise ConfigError(f"lm_eval cannot run {names}: {error}; check the keys of the task files") from error
    return _rows(found)


def _rows(found: Any) -> list[dict[str, Any]]:
    rows = []
    for task, results in found["results"].items():
        count = found["n-samples"][task]["effective"]
        for name, value in results.items():
            metric, comma, kind = name.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, (int, float)):
                continue
            stderr = results.get(f"{metric}_stderr,{kind}")
            rows.append(
                {
                    "task": task, "metric": metric, "filter": kind, "value": float(value),
                    "stderr": float(stderr) if isinstance(stderr, (int, float)) else None, "documents": int(count),
                }
            )  # fmt: skip
    return rows


def _model(loaded: LoadedModel) -> Any:
    """An instance of the harness' abstract model; its class exists only where the harness does."""
    base: Any = importlib.import_module("lm_eval.api.model").LM

    class Wrapped(base):  # type: ignore[misc]
        """Requests of the harness, one by one."""

        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            return [continuation(loaded, *request.args) for request in requests]

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
            return [rolling(loaded, request.args[0]) for request in requests]

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            return [_until(loaded, *request.args) for request in requests]

    return Wrapped()


def _until(loaded: LoadedModel, context: str, settings: dict[str, Any]) -> str:
    """Greedy continuation up to the first stop string."""
    if settings.get("do_sample") or float(settings.get("temperature") or 0) > 0:
        raise ConfigError("a task asks for sampling, whose draws the harness does not seed; set do_sample: false")
    text = generate(loaded, context, tokens=int(settings.get("max_gen_toks", 64))).text
    stops = settings.get("until") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.split(stop)[0] if stop else text
    return text
