"""Every block of the documentation is one that a test runs or checks, or says why it is not."""

import json
import re
from pathlib import Path

import pytest

from documentation import COMMAND, LANGUAGES, PAGES, ROOT, Block, blocks, commands, indented, inline, shell
from tremor import cli, config
from tremor.config.generate import schema
from tremor.config.listing import keys

DEFAULTS = ROOT / "config/config.default.yaml"


def of(language: str) -> list[Block]:
    return [block for block in blocks() if block.language == language and block.reason is None]


def test_every_block_names_its_language():
    assert not [block.place for block in blocks() if block.language not in LANGUAGES and block.reason is None]


def test_blocks_of_every_kind_are_found():
    """A reader of pages that finds nothing would let all other tests pass."""
    assert len(of("python")) >= 5
    assert len(of("yaml")) >= 8
    assert len(of("sh")) >= 8
    assert len(shell()) >= 20
    assert {"README.md", "config/README.md", "docs/start.md"} <= {block.page for block in blocks()}


def test_nothing_that_looks_like_a_command_escapes():
    for page in PAGES:
        assert not [line for line in indented(page) if COMMAND.match(line)], f"{page.name}: put commands into ```sh"
    for block in of("text"):
        assert not [line for line in block.text.splitlines() if COMMAND.match(line)], f"{block.place}: ```sh"


@pytest.mark.parametrize("block", of("yaml"), ids=lambda block: block.place)
def test_configurations_are_valid(block: Block, tmp_path: Path):
    """As they stand, on top of the defaults."""
    mine = tmp_path / "my.yaml"
    mine.write_text(block.text, encoding="utf-8")
    config.load_files([DEFAULTS, mine])


def test_json_is_json():
    for block in of("json"):
        json.loads(block.text)


def test_commands_of_make_exist():
    targets = set(re.findall(r"(?m)^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    asked = [command.words for command in shell() if command.program == "make"]
    asked += [tuple(code.split()) for page in PAGES for code in inline(page) if code.startswith("make ")]
    assert asked
    for words in asked:
        named = {word for word in words[1:] if "=" not in word and not word.startswith(("-", '"'))}
        assert named <= targets, f"{' '.join(words)}: no such target"


def test_commands_of_tremor_are_parsed(capsys: pytest.CaptureFixture[str]):
    """Those in the text too, as far as they are whole."""
    parser = cli.parser()
    asked = [(command.block.place, command.arguments) for command in shell() if command.program == "tremor"]
    for page in PAGES:
        whole = [code.split()[1:] for code in inline(page) if re.fullmatch(r"tremor [\w./ =-]+", code)]
        asked += [(page.name, words) for words in whole]
    for place, arguments in asked:
        try:
            parser.parse_args(arguments)
        except SystemExit as end:
            said = capsys.readouterr().err
            # `tremor bundle` in a sentence is a command's name, not a call; --help ends the program, as it should.
            fine = end.code == 0 or (place.endswith(".md") and "required" in said)
            assert fine, f"{place}: tremor {' '.join(arguments)}: {said}"


def test_files_that_commands_name_exist():
    known = {"snakemake", "tremor", "make"}
    for command in shell():
        if command.program in known:
            continue
        if command.words == ("source", ".venv/bin/activate"):
            continue
        assert "/" in command.program, f"{command.block.place}: nothing checks {command.program}; mark the block"
        assert (ROOT / command.program).is_file(), f"{command.block.place}: {command.program} does not exist"


def test_keys_that_sentences_name_exist():
    """`exp12.angles` in a sentence is a key of the configuration."""
    known = {key for key, *_ in keys(schema())}
    heads = {key.partition(".")[0] for key in known}
    for page in PAGES:
        for code in inline(page):
            head, dot, rest = code.partition(".")
            whole = re.fullmatch(r"[a-z_]+(?:\.[a-z_]+)*", rest)
            if not dot or head not in heads or not whole or rest in FILES:
                continue
            # A block, a key, or an entry of a table that the user names: `prompts.capital.text`.
            fits = any(key == code or key.startswith(f"{code}.") or _stands_for(key, code) for key in known)
            assert fits, f"{page.name}: `{code}` is no key of the configuration"


FILES = {"md", "py", "smk", "h5", "csv", "png", "json", "parquet", "svg"}


def _stands_for(key: str, code: str) -> bool:
    pattern = re.sub(r"<[^>]*>|\\\*", "[^.]+", re.escape(key).replace(r"\<", "<").replace(r"\>", ">"))
    return re.fullmatch(pattern, code) is not None


def test_a_command_is_read_as_the_shell_reads_it():
    text = 'make test ARGS="-k floats"  # some\n\nPIP_INDEX=x snakemake \\\n  exp12 -n\n'
    found = [command.words for command in commands(Block("x.md", 1, "sh", text, None))]
    assert found == [("make", "test", "ARGS=-k floats"), ("snakemake", "exp12", "-n")]
    with pytest.raises(AssertionError, match="one command a line"):
        list(commands(Block("x.md", 1, "sh", "cd x && make", None)))
