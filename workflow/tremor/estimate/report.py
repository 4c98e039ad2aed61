"""The estimate of some targets, as numbers and as a table for the screen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tremor.estimate import costs, plan, shape, situation, work
from tremor.estimate.machine import Rates, measure
from tremor.estimate.plan import Job
from tremor.estimate.settings import graph as read_graph
from tremor.estimate.shape import Shape
from tremor.graph import Graph

HEADER = ("target", "jobs", "forwards", "backwards", "inputs", "FLOPs", "seconds", "peak MB", "disk MB")


@dataclass(frozen=True)
class Estimate:
    """What was found out before anything ran."""

    targets: Mapping[str, work.Cost]  # each as if it were asked for alone
    everything: work.Cost  # all targets together: shared jobs count once
    rules: Mapping[str, work.Cost]  # of the jobs together, by rule
    rates: Rates


def estimate(
    targets: Sequence[str], *, home: Path, directory: Path, configfiles: Sequence[Path] = (), rates: Rates | None = None
) -> Estimate:
    """Plan, measure the machine, and price every job.

    Args:
        targets: Files or rules; none takes every summary of the configuration.
        home: Folder of the workflow.
        directory: Folder the results are in.
        configfiles: As given to Snakemake.
        rates: Of a machine that was measured already.

    Raises:
        ConfigError: the configuration is wrong.
        ModelError: nothing is known of a model.
        TremorError: Snakemake cannot plan the targets.
    """
    settings = read_graph(home=home, directory=directory, configfiles=configfiles)
    jobs, wanted = plan.plan(targets, home=home, directory=directory, configfiles=configfiles)
    shapes = {alias: model_shape(settings, directory, alias) for alias in _models(settings, jobs)}
    if rates is None:
        probe = settings.config.probe
        width = max(found.width for found in shapes.values())
        rates = measure(width=width, device=probe.device, threads=probe.threads)
    making = [job for job in jobs if job.outputs]
    prices = {id(job): price(job, settings, shapes, rates) for job in making}
    rules: dict[str, work.Cost] = {}
    for job in making:
        rules[job.rule] = rules.get(job.rule, work.Cost()) + prices[id(job)]
    return Estimate(
        targets={
            name: work.total(prices[id(job)] for job in plan.needed(jobs, name) if job.outputs) for name in wanted
        },
        everything=work.total(prices.values()),
        rules=rules,
        rates=rates,
    )


def price(job: Job, settings: Graph, shapes: Mapping[str, Shape], rates: Rates) -> work.Cost:
    """What one job costs."""
    # Jobs over several models (a comparison, a summary) are told by the widest of them.
    own = shapes.get(job.model or "") or max(shapes.values(), key=lambda found: found.parameters)
    return work.price(costs.entry(job.rule)(situation.Situation(job, settings, own)), own, rates)


def model_shape(settings: Graph, directory: Path, alias: str) -> Shape:
    """The numbers of a configured model."""
    entry = settings.plain["models"][alias]
    folder = Path(entry["path"]).expanduser() if entry["source"] == "path" else Path("resources/models") / alias
    return shape.read(str(directory / folder), entry)


def _models(settings: Graph, jobs: Sequence[Job]) -> list[str]:
    found = [job.model for job in jobs if job.model]
    return list(dict.fromkeys([*found, *settings.models]))


def rows(found: Estimate, *, by_rule: bool = False) -> list[list[str]]:
    """The table's rows: targets or rules, then everything."""
    parts = found.rules if by_rule else found.targets
    names = {**parts, "everything together": found.everything}
    return [[name, *cells(cost)] for name, cost in names.items()]


def cells(cost: work.Cost) -> list[str]:
    """One cost as text."""
    whole = (cost.jobs, round(cost.forwards), round(cost.backwards), round(cost.evaluated))
    return [*map(str, whole), f"{cost.flops:.2g}", f"{cost.seconds:.0f}", f"{cost.memory / 1e6:.0f}",
            f"{cost.disk / 1e6:.1f}"]  # fmt: skip


def document(found: Estimate) -> dict[str, Any]:
    """The estimate as plain values, for programs."""
    from dataclasses import asdict

    return {
        "targets": {name: asdict(cost) for name, cost in found.targets.items()},
        "everything": asdict(found.everything),
        "rules": {name: asdict(cost) for name, cost in found.rules.items()},
        "rates": asdict(found.rates),
    }
