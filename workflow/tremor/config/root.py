"""The whole configuration: all blocks together, and the checks between them.

To add a block for an experiment: write one file beside this one with a class derived from
`tremor.config.base.Block` (each field with a default and a `description`, the class with a docstring),
then add one line to `Config` below (and its import), and run `python -m tremor.config.generate`.
Default YAML, JSON schema, error messages and drift test follow by themselves. A check between two blocks
goes into `disagreements`.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from tremor.config.base import Block
from tremor.config.boundary import Exp12, Exp13, Exp15, Spectrum
from tremor.config.cross import Cross
from tremor.config.delta import Delta
from tremor.config.divergence import Exp4
from tremor.config.documents import Pdf
from tremor.config.esa import Esa
from tremor.config.figures import Figures
from tremor.config.local import Exp5
from tremor.config.matrices import Exp9
from tremor.config.models import DEFAULT_MODELS, Models, Training
from tremor.config.noise_floors import NoiseFloors
from tremor.config.page import Page
from tremor.config.perturbation import Perturbation
from tremor.config.platforms import DEFAULT_PAIRS, DEFAULT_PLATFORMS, Pairs, Platforms, Recorder
from tremor.config.probe import Probe
from tremor.config.prompts import DEFAULT_PROMPTS, Prompts, Select
from tremor.config.quotients import Exp2, Exp3, Lipschitz
from tremor.config.regimes import Regimes
from tremor.config.sharding import Shards
from tremor.config.spelling import suggestion
from tremor.config.stages import Exp8
from tremor.config.sweeps import Exp10
from tremor.config.ties import Exp6, Exp7
from tremor.config.walks import Exp1, Exp11, Exp14
from tremor.config.weights import CriticalWeights


class Problem(NamedTuple):
    """Something wrong: the dotted path of the key, and what is wrong with it."""

    path: str
    message: str


class Config(Block):
    """Configuration of Tremor."""

    models: Models = Field(
        default=DEFAULT_MODELS,
        description="Models by alias; yours are added to these. The alias names folders of results.",
    )
    prompts: Prompts = Field(
        default=DEFAULT_PROMPTS,
        description="Prompts by alias; yours are added to these. The alias names folders of results.",
    )
    platforms: Platforms = Field(
        default=DEFAULT_PLATFORMS,
        description="Ways of doing arithmetic, by name; yours are added to these. The name names folders of results.",
    )
    pairs: Pairs = Field(
        default=DEFAULT_PAIRS,
        description="Which two platforms are compared, by a name for the pair; yours are added to these.",
    )
    select: Select = Select()
    recorder: Recorder = Recorder()
    probe: Probe = Probe()
    shards: Shards = Shards()
    spectrum: Spectrum = Spectrum()
    exp1: Exp1 = Exp1()
    exp2: Exp2 = Exp2()
    exp3: Exp3 = Exp3()
    exp4: Exp4 = Exp4()
    exp5: Exp5 = Exp5()
    exp6: Exp6 = Exp6()
    exp7: Exp7 = Exp7()
    exp8: Exp8 = Exp8()
    exp9: Exp9 = Exp9()
    exp10: Exp10 = Exp10()
    exp11: Exp11 = Exp11()
    exp12: Exp12 = Exp12()
    exp13: Exp13 = Exp13()
    exp14: Exp14 = Exp14()
    exp15: Exp15 = Exp15()
    regimes: Regimes = Regimes()
    noise_floors: NoiseFloors = NoiseFloors()
    lipschitz: Lipschitz = Lipschitz()
    perturbation: Perturbation = Perturbation()
    pdf: Pdf = Pdf()
    delta: Delta = Delta()
    esa: Esa = Esa()
    critical_weights: CriticalWeights = CriticalWeights()
    cross: Cross = Cross()
    training: Training = Training()
    figures: Figures = Figures()
    page: Page = Page()

    @model_validator(mode="after")
    def _blocks_agree(self) -> Self:
        problems = disagreements(self)
        if problems:
            # The problems travel with the error, so that each gets its own path in the message.
            text = "\n".join(f"{path}: {message}" for path, message in problems)
            raise PydanticCustomError("tremor_blocks", "{message}", {"message": text, "problems": problems})
        return self


def disagreements(config: Config) -> list[Problem]:
    """Check what no block can check alone.

    Args:
        config: the configuration, each of its blocks valid.

    Returns:
        The problems, empty if there are none.
    """
    problems = undefined("models", config.select.models, config.models)
    problems += unknown_in_delta(config)
    judge = config.esa.attribution.judge
    if judge is not None and judge not in config.models:
        problems.append(Problem("esa.attribution.judge", f"{judge!r} is not defined in models; choose one, or null"))
    problems += unranked_in_cross(config)
    problems += undefined("prompts", config.select.prompts, config.prompts)
    problems += confusable("models", config.models) + confusable("prompts", config.prompts)
    problems += [
        Problem("pdf.select", found.message.replace("`documents`", "`pdf.documents`"))
        for found in undefined("documents", config.pdf.select, config.pdf.documents)
    ]
    problems += confusable("pdf.documents", config.pdf.documents)
    problems += confusable("platforms", config.platforms) + confusable("pairs", config.pairs)
    problems += _pairs(config)
    if config.shards.exp7_zoom > 1 and config.exp7.zoom_method == "crop":
        text = "a zoom that is cut out of the maps runs no model: set it to 1, or exp7.zoom_method to recompute"
        problems.append(Problem("shards.exp7_zoom", text))
    if config.shards.exp12 > config.exp12.angles:  # others are known with the model, the tie or the file
        text = f"is {config.shards.exp12}, but exp12.angles is {config.exp12.angles}; a shard needs an angle, lower it"
        problems.append(Problem("shards.exp12", text))
    if config.spectrum.method == "lanczos":
        top_k = config.spectrum.top_k
        needs: Mapping[str, int | str] = {
            "exp1.vectors": max((k for k in config.exp1.vectors if isinstance(k, int)), default=1),
            "exp3.vector": config.exp3.vector,
            "exp5.vector": config.exp5.vector,
            "regimes.directions": max((k for k in config.regimes.directions if isinstance(k, int)), default=1),
            "exp11.vector": config.exp11.vector,
            "exp11.partner": config.exp11.partner,
            "exp12.plane": max(config.exp12.plane),
            "exp13.vectors": config.exp13.vectors,
            "exp14.vector": config.exp14.vector,
            "lipschitz.report_vector": config.lipschitz.report_vector,
        }
        for path, rank in needs.items():
            if isinstance(rank, int) and rank > top_k:
                problems.append(
                    Problem(
                        path,
                        f"needs {rank} singular vectors, but spectrum.top_k is {top_k}; set that to {rank}",
                    )
                )
    if config.probe.max_memory == "auto" and any(count > 1 for _, count in config.shards):
        problems.append(
            Problem(
                "probe.max_memory",
                "auto is half of what is free on a node, and sizes of batches follow it, so shards would round "
                "differently; set a number of GiB",
            )
        )
    problems += [
        Problem("exp7.methods", f"{method!r} has no tie; add it to exp6.methods")
        for method in config.exp7.methods
        if method not in config.exp6.methods
    ]
    return problems


def unknown_in_delta(config: Config) -> list[Problem]:
    """Models of the delta studies that nobody has defined; their default only counts where the models' does."""
    if "delta" not in config.model_fields_set:
        return []
    found = undefined("models", config.delta.models, config.models)
    return [Problem("delta.models", message) for _, message in found]


def unranked_in_cross(config: Config) -> list[Problem]:
    """Lists that the cross-examination asks for and nobody makes."""
    metrics, finders = config.critical_weights.metrics, config.esa.super_weights.methods
    scores, methods = config.cross.chosen(metrics, finders)
    found = [
        Problem("cross.scores", f"{name!r} is not ranked; add it to critical_weights.metrics, or remove it here")
        for name in scores
        if name not in metrics
    ]
    found += [
        Problem("cross.methods", f"{name!r} is not listed; add it to esa.super_weights.methods, or remove it here")
        for name in methods
        if name not in finders
    ]
    if not scores and not methods:
        found.append(Problem("cross.scores", "auto finds no list; name one of critical_weights.metrics"))
    return found


def _pairs(config: Config) -> list[Problem]:
    """Pairs of platforms that do not exist or are one platform, and selected pairs that do not exist."""
    problems = [
        Problem(
            f"pairs.{name}",
            f"{alias!r} is not defined under `platforms`{suggestion(alias, config.platforms)} "
            f"(defined: {', '.join(config.platforms)})",
        )
        for name, pair in config.pairs.items()
        for alias in pair
        if alias not in config.platforms
    ]
    problems += [
        Problem(f"pairs.{name}", f"names {first!r} twice; as a control, define a second platform with the same keys")
        for name, (first, second) in config.pairs.items()
        if first == second
    ]
    if config.select.pairs != "auto":
        problems += undefined("pairs", config.select.pairs, config.pairs)
    if config.noise_floors.platforms != "auto":
        problems += [
            Problem("noise_floors.platforms", message)
            for _, message in undefined("platforms", config.noise_floors.platforms, config.platforms)
        ]
    return problems


def undefined(kind: str, selected: Collection[str], defined: Collection[str]) -> list[Problem]:
    """Find selected aliases that nobody has defined.

    Args:
        kind: "models" or "prompts".
        selected: the aliases in `select`.
        defined: the aliases that exist.

    Returns:
        One problem for each.
    """
    return [
        Problem(
            f"select.{kind}",
            f"{alias!r} is not defined under `{kind}`{suggestion(alias, defined)} "
            f"(defined: {', '.join(defined) or 'none'})",
        )
        for alias in selected
        if alias not in defined
    ]


def confusable(kind: str, aliases: Collection[str]) -> list[Problem]:
    """Find aliases that are one folder on a file system that ignores case.

    Args:
        kind: "models" or "prompts".
        aliases: the aliases that exist.

    Returns:
        One problem for each alias that repeats an earlier one.
    """
    seen: dict[str, str] = {}
    problems = []
    for alias in aliases:
        first = seen.setdefault(alias.lower(), alias)
        if first != alias:
            problems.append(
                Problem(f"{kind}.{alias}", f"differs from {first!r} only in case, and folders may not; rename one")
            )
    return problems
