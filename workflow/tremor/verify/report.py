"""What a verification found, as a table for the screen and for docs/models.md (no torch)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["pass", "refused", "fail"]

# Name -> (heading of its column, what is asked), in the order in which they run.
CHECKS: dict[str, tuple[str, str]] = {
    "anatomy": ("anatomy", "the model is read from the files, and its blocks, norms and projections are found"),
    "taps": ("taps", "all taps fire, summands add up to the stream bit for bit, the logits are those without hooks"),
    "resume": ("resume", "the forward resumed behind every block has the bits of the whole one"),
    "reference": ("reference mode", "A/A control; the answer has the bits of the plain forward from token ids"),
    "batched": ("batched mode", "A/A control of the largest batch; the answers are those of reference mode"),
    "recording": ("recording", "recorded twice with equal bits; its rows and logits are those of a plain forward"),
    "float64": ("float64", "a step of 1e-12 moves the output as the derivative predicts; no operation is narrower"),
    "jacobian": ("Jacobian", "products with it are central differences of the full forward in true float64"),
    "spectrum": ("spectrum", "small residuals; the step along the first direction has length sigma_1 in true float64"),
    "boundary": ("boundary", "16 rays, each asked again just before and at its boundary"),
    "super_weights": ("super weights", "a spike planted in each block is seen at its weight, and found by the search"),
    "gain": ("gain", "Lanczos norms behind the first and last block are those of whole matrices"),
}


@dataclass(frozen=True)
class Check:
    """One question and its answer.

    Attributes:
        name: A key of `CHECKS`.
        verdict: "pass"; "refused" where the library itself says, with a reason, that it cannot; "fail" where it gave
            an answer that is wrong.
        detail: What was measured, or the reason.
        numbers: What was measured, by name; empty unless it passed.
    """

    name: str
    verdict: Verdict
    detail: str
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """What a check that passed has measured: a sentence, and the numbers in it."""

    detail: str
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verification:
    """All answers for one model.

    Attributes:
        model: Its folder's name, or its alias.
        kind: `model_type` of its config.
        mixers: Kinds of its blocks' mixers, each once, in order of appearance.
        checks: In the order of `CHECKS`; a model that is not understood has one.
    """

    model: str
    kind: str
    mixers: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def sound(self) -> bool:
        """Whether the model is understood and nothing failed; what else is refused is no wrong answer."""
        return self.verdict("anatomy") == "pass" and all(check.verdict != "fail" for check in self.checks)

    def verdict(self, name: str) -> Verdict | None:
        """The answer to one question, None if it was not asked."""
        return next((check.verdict for check in self.checks if check.name == name), None)

    def refusals(self) -> dict[str, list[str]]:
        """Reason to the checks refused for it."""
        found: dict[str, list[str]] = {}
        for check in self.checks:
            if check.verdict == "refused":
                found.setdefault(check.detail, []).append(check.name)
        return found


def lines(found: Verification) -> list[tuple[str, str, str]]:
    """Rows of the table on the screen: check, verdict, detail."""
    return [(check.name, check.verdict, check.detail) for check in found.checks]


def conclusion(found: Verification) -> str:
    """What the table comes to, in one sentence."""
    if found.verdict("anatomy") != "pass":
        return f"{found.model} ({found.kind}) is not understood; nothing can be measured on it."
    failed = [check.name for check in found.checks if check.verdict == "fail"]
    if failed:
        return f"{found.model} ({found.kind}): do not trust {', '.join(failed)}. Please report this with the table."
    refused = [check.name for check in found.checks if check.verdict == "refused"]
    but = f", but not {', '.join(refused)}, for the reasons given" if refused else ""
    return f"{found.model} ({found.kind}) can be measured{but}."


def document(found: Verification) -> dict[str, Any]:
    """Everything, for programs."""
    return {**asdict(found), "sound": found.sound}


_MARKS: dict[Verdict | None, str] = {"pass": "yes", "refused": "no", "fail": "FAILS", None: ""}


def row(found: Verification) -> list[str]:
    """One model's cells in docs/models.md: name, mixers, and a mark for each check. No number of a machine is in it."""
    return [f"`{found.model}`", ", ".join(found.mixers), *(_MARKS[found.verdict(name)] for name in CHECKS)]


def page(models: Sequence[Verification]) -> str:
    """The generated part of docs/models.md: the table, and the reason of every refusal.

    Args:
        models: In the order of the table.
    """
    head = ["family", "mixers", *(heading for heading, _ in CHECKS.values())]
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *map(row, models))]
    who: dict[tuple[str, str], list[str]] = {}
    for found in models:
        for reason, names in found.refusals().items():
            what = ", ".join(CHECKS[name][0] for name in names)
            who.setdefault((what, reason), []).append(f"`{found.model}`")
    reasons = [f"- {', '.join(families)}; {what}: {reason}" for (what, reason), families in who.items()]
    return "\n".join([*lines, "", "Refused, in the library's own words:", "", *reasons])
