"""The noise floors as a table of Markdown, and into a page: ``python -m tremor.experiments.floor_page``.

A page shows numbers of one machine; it is brought up to date by hand, from that machine's summary.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tremor.errors import ArtifactError
from tremor.store.atomic import write_bytes
from tremor.store.tables import read_csv

BEGIN, END = "<!-- noise floors: begin -->", "<!-- noise floors: end -->"
HEADER = (
    "model", "platform", "type", "mode", "state, median", "state, max", "in roundings", "logit, max",
    "weights alone", "other token", "A/A: state, logits", "bits",
)  # fmt: skip


def markdown(summary: pd.DataFrame) -> str:
    """The table, one line for each row of the summary.

    Args:
        summary: results/noise_floors/summary.csv.
    """
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    for row in summary.itertuples():
        cells = (
            row.model, row.platform, row.dtype, row.mode, f"{row.state_median:.1e}", f"{row.state_max:.1e}",
            f"{row.state_median_roundoffs:.1f}", f"{row.logit_error_max:.1e}", f"{row.weights_median:.1e}",
            f"{row.tokens_changed} of {row.prompts}",
            f"{row.controls_exact}, {row.logits_exact} of {row.prompts}",
            f"`{str(row.bits).removeprefix('sha256:')[:6]}`",
        )  # fmt: skip
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def replaced(page: str, table: str) -> str:
    """A page with another table between the two marks.

    Raises:
        ArtifactError: the page has not exactly one pair of marks.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ArtifactError(f"the page must hold '{BEGIN}' once and '{END}' once behind it; put them in")
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}\n{table}{END}{rest.partition(END)[2]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table of a summary into a page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("summary", type=Path, help="results/noise_floors/summary.csv")
    parser.add_argument("page", type=Path, help="docs/noise_floors.md")
    given = parser.parse_args(arguments)
    page = given.page.read_text(encoding="utf-8")
    write_bytes(given.page, replaced(page, markdown(read_csv(given.summary))).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
