"""The command `snakemake` of `.venv`: Snakemake itself, which also takes a target behind an option with many values.

Options such as ``--resources`` and ``--configfile`` take any number of values, so argparse gives them the targets that
follow as well, and ``snakemake --resources gpu=1 results/exp15/summary.csv`` ends in a traceback. Nothing but the
order of the arguments is changed here: values that cannot belong to the option are moved to the front.
"""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

_PAIR = re.compile(r"[A-Za-z_]\w*=")
_RULE_PAIR = re.compile(r"[A-Za-z_]\w*[:=]")
_CONFIG_FILE = re.compile(r"(?!results/|resources/).*\.(ya?ml|json)$")

# Options of Snakemake that take several values, and what one of their values looks like.
_VALUES: dict[str, re.Pattern[str]] = {
    **dict.fromkeys(("--resources", "--res", "--config", "-C", "--default-resources", "--default-res"), _PAIR),
    **dict.fromkeys(("--set-threads", "--set-resources", "--set-scatter"), _RULE_PAIR),
    **dict.fromkeys(("--configfile", "--configfiles"), _CONFIG_FILE),
}


def targets_first(arguments: Sequence[str]) -> list[str]:
    """Move targets that stand among the values of an option before all options.

    Args:
        arguments: the command line without the program.

    Returns:
        The same arguments, in an order that Snakemake reads as it was meant.
    """
    targets: list[str] = []
    rest: list[str] = []
    values: re.Pattern[str] | None = None
    for number, argument in enumerate(arguments):
        if argument == "--":
            rest += arguments[number:]
            break
        if argument.startswith("-"):
            values = _VALUES.get(argument)
            rest.append(argument)
        elif values is not None and not values.match(argument):
            # All that follows up to the next option are targets too.
            values = _NOTHING
            targets.append(argument)
        else:
            rest.append(argument)
    return [*targets, *rest]


_NOTHING = re.compile(r"(?!)")


def broken_files(arguments: Sequence[str]) -> list[str]:
    """What is wrong with the YAML of the config files of a command line, with lines, which Snakemake leaves out.

    Args:
        arguments: the command line without the program.

    Returns:
        One message for each file that is no YAML; none for a file that is missing, which Snakemake names itself.
    """
    from tremor.config import read_yaml
    from tremor.errors import ConfigError

    found, reading = [], False
    for argument in arguments:
        if argument.startswith("-"):
            reading = argument in ("--configfile", "--configfiles")
        elif reading and Path(argument).is_file():
            try:
                read_yaml(argument)
            except ConfigError as error:
                found.append(str(error))
    return [message for message in found if "not valid YAML" in message]


def main() -> int | None:
    """Run Snakemake with this process's arguments."""
    from snakemake.cli import main as snakemake

    run: Callable[[], int | None] = snakemake
    sys.argv[1:] = targets_first(sys.argv[1:])
    # The Snakefile that is run may belong to another checkout; it must find that one's library, not this one's.
    for name in [name for name in sys.modules if name.partition(".")[0] == "tremor"]:
        del sys.modules[name]
    try:
        return run()
    except SystemExit as end:
        if end.code:
            sys.stderr.writelines(f"error: {message}\n" for message in broken_files(sys.argv[1:]))
        raise
