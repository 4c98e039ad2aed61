"""Shards: how the items of one experiment are cut into parts that run as jobs of their own, and what these are called.

What makes a sharded result the same, bit for bit, as one made by a single job:

- items (rays, rows of a map, prompts, questions, tensors, changes of weights) are formed for the whole and then cut,
  random draws included;
- an item's numbers depend on nothing but itself: batches have one fixed shape, padded, and the A/A control has shown
  that a row's bits depend neither on its place nor on its neighbours;
- what an experiment says over all items is computed when the parts are together, by the code that a single job runs
  (:mod:`tremor.store.shards`).

Read at parse time by every Snakemake process, so this imports neither torch nor numpy.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Self

from tremor.errors import ConfigError

_NAME = re.compile(r"([1-9]\d*)-of-([1-9]\d*)")
NOTHING = "(?!)"  # a pattern that matches no name: a rule with it never applies


def split(total: int, count: int, *, step: int = 1) -> list[range]:
    """Cut items 0 .. total - 1 into runs of nearly equal length, in order.

    Args:
        total: Items.
        count: Runs, >= 1.
        step: Cut at multiples of this only: items that share a batch stay together.

    Returns:
        Disjoint runs that cover everything; some are empty where there are fewer batches than runs.
    """
    if total < 0 or count < 1 or step < 1:
        raise ValueError(f"cannot cut {total} items into {count} runs at multiples of {step}")
    batches = -(-total // step)
    ends = [min(total, step * (batches * k // count)) for k in range(count + 1)]
    return [range(start, stop) for start, stop in pairwise(ends)]


def balanced(sizes: Sequence[int], count: int) -> list[range]:
    """Cut items of unlike size into runs of nearly equal size, in order; no run is empty while there are items left.

    Args:
        sizes: Size of each item.
        count: Runs, >= 1.
    """
    if count < 1:
        raise ValueError(f"cannot cut {len(sizes)} items into {count} runs")
    totals, ends = list(accumulate(sizes, initial=0)), [0]
    for k in range(1, count):
        near = min(range(len(totals)), key=lambda end: abs(totals[end] * count - totals[-1] * k))
        # At least one item for this run, and for each that follows, as far as there are any.
        ends.append(min(max(near, ends[-1] + 1, k), max(len(sizes) - (count - k), ends[-1])))
    return [range(start, stop) for start, stop in pairwise([*ends, len(sizes)])]


def names(count: int) -> list[str]:
    """Names of the shards of a whole, as files carry them: ``1-of-3`` ..."""
    return [f"{number}-of-{count}" for number in range(1, count + 1)]


@dataclass(frozen=True)
class Shard:
    """One shard of several, numbered from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, name: str) -> Self:
        """The shard of a name such as ``2-of-3``.

        Raises:
            ConfigError: no shard is called that.
        """
        match = _NAME.fullmatch(name)
        if match is None or int(match[1]) > int(match[2]):
            raise ConfigError(f"no shard is called {name!r}; shards of three are called 1-of-3, 2-of-3, 3-of-3")
        return cls(int(match[1]), int(match[2]))

    def rows(self, total: int, *, key: str, step: int = 1) -> range:
        """The items of this shard.

        Args:
            total: Items there are.
            key: Key of the config that says how many shards there are, for the message.
            step: See :func:`split`.

        Raises:
            ConfigError: there are more shards than items (or batches), so that some would load a model for nothing.
        """
        batches = -(-total // step)
        if self.count > max(1, batches):
            what = f"{total} items" if step == 1 else f"{batches} batches of {step}"
            raise ConfigError(f"{key} is {self.count}, but there are only {what} to share out; lower it")
        return split(total, self.count, step=step)[self.number - 1]

    def share(self, sizes: Sequence[int], *, key: str) -> range:
        """The items of this shard where they are of unlike size, such as tensors.

        Args:
            sizes: Size of each item.
            key: Key of the config that says how many shards there are, for the message.

        Raises:
            ConfigError: there are more shards than items.
        """
        if self.count > max(1, len(sizes)):
            raise ConfigError(f"{key} is {self.count}, but there are only {len(sizes)} items to share out; lower it")
        return balanced(sizes, self.count)[self.number - 1]


WHOLE = Shard(1, 1)


@dataclass(frozen=True)
class Layout:
    """The shards of a configuration, as the rules ask for them.

    Attributes:
        counts: Experiment to number of shards: the config block ``shards``.
    """

    counts: Mapping[str, int]

    def several(self, *experiments: str) -> str:
        """Regular expression of those of these experiments that are cut, for the rules of their shards."""
        return "|".join(name for name in experiments if self.counts[name] > 1) or NOTHING

    def unless(self, experiment: str, pattern: str) -> str:
        """A wildcard's pattern where an experiment is one job; else one that keeps the rule of that job out."""
        return pattern if self.counts[experiment] == 1 else NOTHING

    def when(self, experiment: str, pattern: str) -> str:
        """A wildcard's pattern where an experiment is cut; else one that keeps the rules of its shards out."""
        return NOTHING if self.counts[experiment] == 1 else pattern

    def of(self, experiment: str) -> list[Shard]:
        """All shards of an experiment."""
        return [Shard.parse(name) for name in names(self.counts[experiment])]

    @property
    def pattern(self) -> str:
        """Regular expression of the names of all shards that the configuration knows."""
        counts = sorted({count for count in self.counts.values() if count > 1})
        return "|".join(name for count in counts for name in names(count)) or NOTHING

    @staticmethod
    def memory(wildcards: Any, input: Any, attempt: int) -> int:
        """Main memory in MB that gathering asks a cluster for: the compressed parts, what is in them, and copies."""
        return math.ceil((1500 + 8 * float(input.size_mb)) * attempt)

    def parts(self, pattern: str, experiment: str | None = None) -> Callable[[Any], list[str]]:
        """Input function of a rule that gathers.

        Args:
            pattern: Of the shards' files, with ``{shard}``.
            experiment: Whose shards; by default the rule's wildcard ``experiment``.
        """

        def found(wildcards: Any) -> list[str]:
            count = self.counts[experiment or wildcards.experiment]
            return [pattern.format(**dict(wildcards.items()), shard=name) for name in names(count)]

        return found
