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
from tremor.config.figures import Figures
from tremor.config.local import Exp5
from tremor.config.models import DEFAULT_MODELS, Models, Training
from tremor.config.perturbation import Perturbation
from tremor.config.probe import Probe
from tremor.config.prompts import DEFAULT_PROMPTS, Prompts, Select
from tremor.config.quotients import Exp2, Exp3, Lipschitz
from tremor.config.regimes import Regimes
from tremor.config.spelling import suggestion
from tremor.config.ties import Exp6, Exp7
from tremor.config.walks import Exp1, Exp11, Exp14


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
    select: Select = Select()
    probe: Probe = Probe()
    spectrum: Spectrum = Spectrum()
    exp1: Exp1 = Exp1()
    exp2: Exp2 = Exp2()
    exp3: Exp3 = Exp3()
    exp5: Exp5 = Exp5()
    exp6: Exp6 = Exp6()
    exp7: Exp7 = Exp7()
    exp11: Exp11 = Exp11()
    exp12: Exp12 = Exp12()
    exp13: Exp13 = Exp13()
    exp14: Exp14 = Exp14()
    exp15: Exp15 = Exp15()
    regimes: Regimes = Regimes()
    lipschitz: Lipschitz = Lipschitz()
    perturbation: Perturbation = Perturbation()
    training: Training = Training()
    figures: Figures = Figures()

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
    problems += undefined("prompts", config.select.prompts, config.prompts)
    problems += confusable("models", config.models) + confusable("prompts", config.prompts)
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
    problems += [
        Problem("exp7.methods", f"{method!r} has no tie; add it to exp6.methods")
        for method in config.exp7.methods
        if method not in config.exp6.methods
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
