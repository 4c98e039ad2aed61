"""The command `tremor`: what a user asks outside of a workflow run. Each subcommand imports what it needs, no more."""

import argparse
import csv
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tremor import __version__
from tremor.errors import ArtifactError, ModelError, TremorError

SIGNIFICANT = 4  # digits of a number in a table on the screen; the file has all of them
GAP = "  "


def number(text: str) -> str:
    """A cell of a CSV as a person reads it: numbers with few digits, all else as it is.

    Args:
        text: the cell.

    Returns:
        The number to `SIGNIFICANT` digits, or the text.
    """
    try:
        value = float(text)
    except ValueError:
        return text
    # Whole numbers are counts, and lose nothing by being short.
    return text if text.lstrip("+-").isdigit() else f"{value:.{SIGNIFICANT}g}"


def read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Names of the columns and the rows of a CSV file, as text.

    Args:
        path: the file.

    Raises:
        ArtifactError: it is no CSV file, cannot be read, is empty, or has rows of another length than its header.
    """
    if path.suffix.lower() != ".csv":
        # The name of an experiment, or of its folder, is a near miss; any other file is none of ours to judge.
        name = path if path.parts[:1] == ("results",) else Path("results") / path
        hint = f"; did you mean {name / 'summary.csv'}?" if (name / "summary.csv").is_file() else ""
        raise ArtifactError(f"{path} is no CSV file, and tremor show prints these only{hint}")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}; make it first: snakemake {path}") from error
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise ArtifactError(f"{path} is no CSV table; delete it and run snakemake again") from error
    if any(len(row) != len(header) for row in rows):
        raise ArtifactError(f"{path} has rows of different lengths; delete it and run snakemake again")
    return header, rows


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, width: int) -> str:
    """A table on the screen: rows beneath each other if they fit, else one line for each column.

    Args:
        header: names of the columns.
        rows: their cells.
        width: characters of a line.

    Returns:
        The lines, without the last line's end.
    """
    lines = [list(header), *([number(cell) for cell in row] for row in rows)]
    if len(_aligned(lines)[0]) > width:
        # A summary has more columns than a screen: turned, each row of it becomes a column.
        lines = [list(column) for column in zip(*lines, strict=True)]
    return "\n".join(_aligned(lines))


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return [GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _show(options: argparse.Namespace) -> int:
    header, rows = read_rows(options.table)
    # A pipe or a log has no width of its own: there a table may be as wide as most screens are.
    width = os.get_terminal_size().columns if sys.stdout.isatty() else 120
    print(table(header, rows, width=width))
    return 0


def shortened(text: str, width: int = 40) -> str:
    """A text that is no longer than a width: its beginning, where it is."""
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _schema(options: argparse.Namespace) -> int:
    from tremor.config.generate import schema, schema_text
    from tremor.config.listing import keys
    from tremor.config.spelling import suggestion

    if options.json:
        sys.stdout.write(schema_text())
        return 0
    found = keys(schema())
    blocks = sorted({key.partition(".")[0] for key, *_ in found})
    wanted = options.block or blocks
    for name in wanted:
        if not any(_within(key, name) for key, *_ in found):
            hint = suggestion(name, [*blocks, *(key for key, *_ in found)])
            sys.stderr.write(f"error: no block or key '{name}'{hint} (blocks: {', '.join(blocks)})\n")
            return 1
    # A default list may be longer than a line; config/config.default.yaml has it whole.
    chosen = [row for row in found if any(_within(row[0], name) for name in wanted)]
    shown = [(key, shortened(default), *more) for key, default, *more in chosen]
    print("\n".join(_aligned([("key", "default", "allowed"), *shown])))
    return 0


def _within(key: str, name: str) -> bool:
    """Whether a key is the one of that name, or lies in the block of that name."""
    return key == name or key.startswith(f"{name}.")


def _doctor(options: argparse.Namespace) -> int:
    from tremor import doctor

    report = doctor.examine(device=options.device, dtype=options.dtype, threads=options.threads, folder=Path.cwd())
    print("\n".join(_aligned([(finding.name, finding.text) for finding in report])))
    bad = [finding for finding in report if finding.problem]
    for finding in bad:
        print(f"\nproblem: {finding.name}: {finding.problem}")
    print("\nThis machine repeats itself bit for bit." if not bad else "\nSee docs/gotchas.md for what to do about it.")
    return 1 if bad else 0


RECORDINGS = Path("results/recordings")  # below the folder Snakemake runs in


def _bundle_pack(options: argparse.Namespace) -> int:
    from tremor.store import bundle

    folder = options.directory / RECORDINGS / options.model / options.platform
    recordings = sorted(folder.glob("q*.h5"))
    if not recordings:
        raise ArtifactError(
            f"no recordings lie in {folder}; make them first (snakemake recordings), or name the folder Snakemake runs "
            "in with --directory"
        )
    manifest = bundle.pack(recordings, options.bundle, platform=options.platform)
    print(f"{options.bundle}: {len(manifest.files)} recordings of '{options.model}' on '{options.platform}'")
    return 0


def _bundle_verify(options: argparse.Namespace) -> int:
    from tremor.store import bundle

    manifest = bundle.verify(options.bundle, largest=options.max_bytes)
    shown = {
        "recordings": len(manifest.files),
        "bytes": manifest.size,
        "platform": manifest.platform,
        "device": manifest.fingerprint.get("applied", {}).get("device_name"),
        **manifest.model,
    }
    print("\n".join(_aligned([(name, str(value)) for name, value in shown.items()])))
    return 0


def _bundle_unpack(options: argparse.Namespace) -> int:
    from tremor.store import bundle

    # The alias is the user's business here; the digests say whether it is the same model.
    model = options.model or bundle.verify(options.bundle, largest=options.max_bytes).model["model"]
    folder, manifest = bundle.unpack(
        options.bundle,
        options.directory / RECORDINGS,
        model=model,
        local=options.directory / "resources/models" / model / "manifest.json",
        platform=options.platform,
        replace=options.replace,
        largest=options.max_bytes,
    )
    print(f"{folder}: {len(manifest.files)} recordings. Name the platform in your configuration, with what it was:")
    settings = {**manifest.settings, "imported": True}
    print(f"\nplatforms:\n  {folder.name}: {json.dumps(settings)}")
    return 0


def _estimate(options: argparse.Namespace) -> int:
    from tremor.estimate import report

    home = Path(__file__).resolve().parents[2]
    found = report.estimate(
        options.targets, home=home, directory=options.directory.resolve(), configfiles=options.configfile or ()
    )
    if options.json:
        print(json.dumps(report.document(found), indent=2))
        return 0
    header = ("rule", *report.HEADER[1:]) if options.rules else report.HEADER
    print("\n".join(_aligned([header, *report.rows(found, by_rule=options.rules)])))
    print("\nSeconds: one job after another on this machine, as measured now. Finished jobs are not counted.")
    if found.everything.generic:
        print(f"{found.everything.generic} of {found.everything.jobs} jobs have no cost model of their own (a guess).")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from tremor import platform
    from tremor.verify import report

    folder = _model_folder(options)
    request = platform.Request(
        device=options.device, dtype=options.dtype, attention=options.attention, threads=options.threads
    )
    platform.apply(request)
    # Only now: this imports torch, which reads its environment once.
    from tremor.verify import run

    found = run.verify_folder(
        folder,
        name=options.model,
        dtype=request.dtype,
        device=platform.resolve_device(request.device),
        attention=request.attention,
        text=options.text or run.TEXT,
        only=options.only or (),
    )
    if options.json:
        print(json.dumps(report.document(found), indent=2))
    else:
        print("\n".join(_aligned(report.lines(found))))
        print(f"\n{report.conclusion(found)}")
    return 0 if found.sound else 1


def _model_folder(options: argparse.Namespace) -> Path:
    """The folder itself, or that of an alias of the configuration."""
    if Path(options.model).is_dir():
        return Path(options.model)
    from tremor.config.load import load_files
    from tremor.models import catalogue

    files = options.configfile or [path for path in (options.directory / "config/config.yaml",) if path.is_file()]
    models = load_files(files).models
    if options.model not in models:
        raise ModelError(f"'{options.model}' is neither a folder nor one of the models {', '.join(sorted(models))}")
    entry = models[options.model].model_dump()
    home: Path = options.directory
    return home / catalogue.directory(options.model, entry, Path("resources"))


def _replay(options: argparse.Namespace) -> int:
    from tremor import replay

    home = Path(__file__).resolve().parents[2]
    found = replay.replay(options.artifact, home=home, options=options.snakemake)
    print("\n".join(_aligned([(each.path, "same bits" if each.same else "DIFFERENT") for each in found])))
    return 0 if all(each.same for each in found) else 1


def _page(options: argparse.Namespace) -> int:
    from tremor.report import build, files

    results = options.directory / "results"
    # The documentation lies beside the results where Snakemake ran in the workflow's own folder.
    docs = "../docs" if (options.directory / "docs/report.md").is_file() else None
    found = files.present(options.directory)
    sources = build.Sources(
        results, found["tables"], found["figures"], found["data"], manifests=found["manifests"], docs=docs
    )
    build.write(results / "index.html", sources, max_mb=options.max_mb, map_cells=options.map_cells)
    count = len(sources.tables)
    print(f"{results / 'index.html'}: {count} {'summary' if count == 1 else 'summaries'}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line of `tremor`."""
    root = argparse.ArgumentParser(prog="tremor", description="Ask about Tremor's configuration, tables, machine.")
    root.add_argument("--version", action="version", version=f"tremor {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    show = commands.add_parser("show", help="print a CSV table, such as a summary, for reading")
    show.add_argument("table", type=Path, help="the file: results/exp15/summary.csv")
    show.set_defaults(run=_show)

    schema = commands.add_parser("schema", help="list every key of the configuration: default and what is allowed")
    schema.add_argument("block", nargs="*", help="only these blocks or keys (exp12, probe.mode, ...)")
    schema.add_argument("--json", action="store_true", help="print the JSON schema instead")
    schema.set_defaults(run=_schema)

    doctor = commands.add_parser("doctor", help="say what this machine computes with, and whether it repeats itself")
    doctor.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    doctor.add_argument(
        "--dtype", default="float32", choices=("float32", "bfloat16", "float16"), help="default: float32"
    )
    doctor.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    doctor.set_defaults(run=_doctor)

    estimate = commands.add_parser("estimate", help="say what targets will cost, before anything runs")
    estimate.add_argument("targets", nargs="*", help="files or rules, as for snakemake (default: every summary)")
    estimate.add_argument("--configfile", type=Path, nargs="+", action="extend", help="as for snakemake")
    estimate.add_argument("--directory", type=Path, default=Path(), help="folder Snakemake runs in (default: here)")
    estimate.add_argument("--rules", action="store_true", help="a line for each rule instead of each target")
    estimate.add_argument("--json", action="store_true", help="print numbers for programs")
    estimate.set_defaults(run=_estimate)

    verify = commands.add_parser(
        "verify", help="run every instrument once on a model, and hold it to what it should be"
    )
    verify.add_argument("model", help="a folder, or an alias of the configuration whose files are there")
    verify.add_argument("--only", nargs="+", metavar="CHECK", help="only these checks (names as in the table)")
    verify.add_argument("--text", help="the prompt (default: a sentence of capitals)")
    verify.add_argument("--dtype", default="float32", choices=("float32", "float64"), help="default: float32")
    verify.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    verify.add_argument("--attention", default="auto", choices=("auto", "eager", "sdpa"), help="default: auto")
    verify.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    verify.add_argument("--configfile", type=Path, nargs="+", action="extend", help="as for snakemake")
    verify.add_argument("--directory", type=Path, default=Path(), help="folder Snakemake runs in (default: here)")
    verify.add_argument("--json", action="store_true", help="print numbers for programs")
    verify.set_defaults(run=_verify)

    replay = commands.add_parser("replay", help="run the one job that made an artifact again, and compare the bits")
    replay.add_argument("artifact", type=Path, help="the file: results/spectrum/llama/capital/float32/spectrum.h5")
    replay.add_argument(
        "snakemake", nargs=argparse.REMAINDER, help="arguments for Snakemake, such as the --configfile of that run"
    )
    replay.set_defaults(run=_replay)

    page = commands.add_parser("page", help="write results/index.html over the results there are, finished or not")
    page.add_argument("--directory", type=Path, default=Path(), help="folder Snakemake ran in (default: here)")
    page.add_argument("--max-mb", type=float, default=15.0, help="largest size in MB (default: 15)")
    page.add_argument("--map-cells", type=int, default=201, help="most cells along an axis of a map (default: 201)")
    page.set_defaults(run=_page)

    _bundle_parser(commands.add_parser("bundle", help="take recordings from one machine to another"))
    return root


def _bundle_parser(root: argparse.ArgumentParser) -> None:
    commands = root.add_subparsers(dest="action", required=True, metavar="ACTION")
    pack = commands.add_parser("pack", help="pack the recordings of one platform")
    pack.add_argument("bundle", type=Path, help="file to write")
    pack.add_argument("--model", required=True, help="alias of the model")
    pack.add_argument("--platform", required=True, help="name of the platform")
    pack.set_defaults(run=_bundle_pack)
    verify = commands.add_parser("verify", help="check a bundle from end to end")
    verify.set_defaults(run=_bundle_verify)
    unpack = commands.add_parser("unpack", help="check a bundle and put it where the workflow looks for it")
    unpack.add_argument("--model", help="alias of the model here (default: the one it had there)")
    unpack.add_argument("--platform", help="name of the platform here (default: the one it had there)")
    unpack.add_argument("--replace", action="store_true", help="let it take the place of recordings that are there")
    unpack.set_defaults(run=_bundle_unpack)
    for command in (verify, unpack):
        command.add_argument("bundle", type=Path, help="the file")
        command.add_argument(
            "--max-bytes", type=int, default=200 * 2**30, help="most it may unpack to (default: 200 GiB)"
        )
    for command in (pack, unpack):
        command.add_argument("--directory", type=Path, default=Path(), help="folder Snakemake runs in (default: here)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        arguments: the command line without the program; None takes the real one.

    Returns:
        The exit status: 0, or 1 after an error or a problem found.
    """
    options = parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except TremorError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; nothing is left to be flushed to it.
        sys.stdout = None
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main())
