"""The configuration is checked strictly, and each message names the key and the remedy."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tremor.config import Config, block, effective_dtype, load, load_files, merged, read_yaml
from tremor.config.prompts import Prompt
from tremor.errors import ConfigError

CONFIG = Path(__file__).parents[3] / "config"
PATH_MODEL = {"source": "path", "path": "/data/m"}

# The example of the issue that asked for the configuration, as a user would write it.
USER_FILE = """\
models:
  mine: {source: path, path: /data/my-model}
prompts:
  capital: {text: "The capital of France is"}
select: {models: [mine], prompts: [capital]}
probe: {mode: reference, dtype: float32, arithmetic: [float64], device: auto}
exp12: {angles: 1000, s_max: 1.0e-6, threshold: 0.0}
"""


def refused(raw: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(raw)
    return str(caught.value).splitlines()


def test_nothing_given_is_the_default() -> None:
    assert load({}) == Config()
    assert load({}).select.models == ("llama",)


@pytest.mark.parametrize(
    ("raw", "path", "meant"),
    [
        ({"exp21": {}, "exp_12": {}}, "exp_12", "exp12"),
        ({"promts": {}}, "promts", "prompts"),
        ({"exp12": {"angels": 5}}, "exp12.angels", "angles"),
        ({"probe": {"batchsize": 5}}, "probe.batchsize", "batch_size"),
        ({"select": {"model": ["llama"]}}, "select.model", "models"),
        ({"prompts": {"capital": {"text": "x", "BOS": "auto"}}}, "prompts.capital.BOS", "bos"),
        ({"models": {"llama": {**PATH_MODEL, "dtyp": None}}}, "models.llama.dtyp", "dtype"),
    ],
)
def test_unknown_key_is_refused_with_the_key_meant(raw: dict[str, Any], path: str, meant: str) -> None:
    [line] = [line for line in refused(raw) if line.startswith(f"{path}:")]
    assert f"{path}: unknown key; did you mean '{meant}'? (keys here: " in line


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"probe": {"mode": "refrence"}}, "probe.mode: got 'refrence'; did you mean 'reference'?"),
        ({"figures": {"formats": ["pgn"]}}, "figures.formats[0]: got 'pgn'; did you mean 'png'?"),
        ({"exp13": {"vectors": "al"}}, "exp13.vectors: got 'al'; did you mean 'all'?"),
        (
            {"models": {"m": {"source": "hubb"}}},
            "models.m.source: unknown source 'hubb'; did you mean 'hub'?",
        ),
        (
            {"select": {"models": ["lama"]}},
            "select.models: 'lama' is not defined under `models`; did you mean 'llama'?",
        ),
        (
            {"select": {"prompts": ["Capital"]}},
            "did you mean 'capital'? (defined: capital, continent, language, currency)",
        ),
    ],
)
def test_misspelt_word_is_refused_with_the_word_meant(raw: dict[str, Any], message: str) -> None:
    assert any(message in line for line in refused(raw))


@pytest.mark.parametrize(
    ("block_name", "key", "value"),
    [
        ("exp12", "angles", 0),
        ("exp12", "angles", 1.5),
        ("exp12", "angles", True),
        ("exp12", "angles", "many"),
        ("exp12", "s_max", 0),
        ("exp12", "s_max", -1e-6),
        ("exp12", "s_max", math.nan),
        ("exp12", "s_max", math.inf),
        ("exp12", "s_max", "nan"),
        ("exp12", "s_max", True),
        ("exp12", "s_max", 1e-60),  # 0 in float32
        ("exp12", "s_max", 1e39),  # infinity in float32
        ("exp12", "threshold", -1e-9),
        ("exp12", "max_evaluations", 1),
        ("exp12", "tolerance", 0),
        ("exp12", "plane", [1]),
        ("exp12", "plane", [1, 2, 3]),
        ("exp12", "plane", [0, 1]),
        ("exp12", "method", "fast"),
        ("exp13", "vectors", 0),
        ("exp13", "random_directions", -1),
        ("exp13", "seed", 2**32),
        ("exp15", "variants", []),
        ("exp15", "variants", ["angles", "angles"]),
        ("probe", "batch_size", 0),
        ("probe", "batch_size", True),
        ("probe", "max_memory", 0),
        ("probe", "max_memory", False),
        ("probe", "threads", 0),
        ("probe", "aa_repeats", 1),
        ("probe", "dtype", "float64"),
        ("probe", "device", "cuda:"),
        ("probe", "device", "cpu\n"),
        ("probe", "arithmetic", []),
        ("probe", "arithmetic", "float64"),
        ("probe", "arithmetic", ["float64", "float64"]),
        ("select", "models", []),
        ("select", "models", ["llama", "llama"]),
        ("spectrum", "top_k", 0),
        ("spectrum", "tolerance", 1),
        ("training", "min_recall", 1.01),
        ("figures", "dpi", 0),
    ],
)
def test_value_out_of_bounds_is_refused_once(block_name: str, key: str, value: object) -> None:
    [line] = refused({block_name: {key: value}})
    assert line.startswith(f"{block_name}.{key}")


def test_message_names_the_bound() -> None:
    assert refused({"exp12": {"angles": 0}}) == ["exp12.angles: got 0 (allowed: a whole number >= 1)"]
    assert refused({"exp12": {"s_max": 0}}) == ["exp12.s_max: got 0 (allowed: a number > 0)"]


def test_plane_needs_two_vectors() -> None:
    assert refused({"exp12": {"plane": [2, 2]}}) == [
        "exp12: plane names the singular vector 2 twice; name two different ranks"
    ]


def test_lanczos_must_find_what_experiments_use() -> None:
    spectrum = {"method": "lanczos", "top_k": 4}
    lines = refused({"spectrum": spectrum, "exp12": {"plane": [1, 5]}, "exp13": {"vectors": 6}})
    assert lines == [
        "exp12.plane: needs 5 singular vectors, but spectrum.top_k is 4; set that to 5",
        "exp13.vectors: needs 6 singular vectors, but spectrum.top_k is 4; set that to 6",
    ]
    assert load({"spectrum": spectrum, "exp13": {"vectors": "all"}}).spectrum.top_k == 4


def test_a_wrong_item_is_told_once_and_an_empty_list_too() -> None:
    assert refused({"figures": {"formats": ["svg"]}}) == ["figures.formats[0]: got 'svg' (allowed: png or pdf)"]
    (line,) = refused({"figures": {"formats": []}})
    assert line.startswith("figures.formats: got [] (allowed: a list, at least one")


def test_more_shards_than_angles_are_refused_before_any_job() -> None:
    lines = refused({"shards": {"exp12": 9}, "exp12": {"angles": 8}})
    assert lines == ["shards.exp12: is 9, but exp12.angles is 8; a shard needs an angle, lower it"]
    assert load({"shards": {"exp12": 8}, "exp12": {"angles": 8}}).shards.exp12 == 8


def test_every_problem_is_reported_one_line_each() -> None:
    lines = refused({"exp12": {"angles": 0, "angels": 1}, "select": {"models": ["nope"]}, "probe": None})
    assert [line.partition(":")[0] for line in lines] == [
        "probe",
        "exp12.angles",
        "exp12.angels",
        "select.models",
    ]
    assert "got nothing (null); remove the line" in lines[0]


@pytest.mark.parametrize("alias", ["../up", "a/b", "..", ".", ".hidden", "", "-flag", "a b", "a\n", "a..b", "x.csv"])
@pytest.mark.parametrize(("kind", "entry"), [("models", PATH_MODEL), ("prompts", {"text": "x"})])
def test_alias_that_is_no_plain_folder_name_is_refused(kind: str, entry: dict[str, str], alias: str) -> None:
    assert any(line.startswith(f"{kind}.") for line in refused({kind: {alias: entry}}))


def test_aliases_that_differ_in_case_only_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"prompts\.Capital: differs from 'capital' only in case"):
        load({"prompts": {"capital": {"text": "a"}, "Capital": {"text": "b"}}})


def test_alias_read_as_a_boolean_needs_quotes() -> None:
    # YAML 1.1 reads the key `no` as false.
    with pytest.raises(ConfigError, match="a key must be text, but False is not; put it in quotes"):
        load({"prompts": yaml.safe_load("no: {text: x}")})


@pytest.mark.parametrize("text", ["", "  \n\t"])
def test_blank_prompt_is_refused(text: str) -> None:
    assert refused({"prompts": {"capital": {"text": text}}}) == [
        "prompts.capital.text: is empty or blank; write some text"
    ]


def test_prompt_read_as_a_boolean_needs_quotes() -> None:
    with pytest.raises(ConfigError, match=r"prompts\.capital\.text: got True; put it in quotes"):
        load({"prompts": yaml.safe_load("capital: {text: yes}")})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"source": "hub", "repo": "gpt2", "revision": "abc"},
            "models.llama.repo: got 'gpt2' (allowed: owner/name",
        ),
        ({"source": "hub", "repo": "../x/y", "revision": "abc"}, "models.llama.repo: got"),
        ({"source": "hub", "repo": "o/n"}, "models.llama.revision: is missing"),
        (
            {"source": "hub", "repo": "o/n", "revision": 12345},
            "models.llama.revision: got 12345; put it in quotes",
        ),
        ({"source": "path"}, "models.llama.path: is missing"),
        ({"path": "/x"}, "models.llama.source: is missing; allowed: embedded, hub or path"),
        ({"source": "embedded", "architecture": "lama"}, "did you mean 'llama'?"),
        ({**PATH_MODEL, "architecture": "llama"}, "'architecture' belongs to source 'embedded'"),
        ("meta/llama", "models.llama: got 'meta/llama' (allowed: a block {source:"),
    ],
)
def test_wrong_model_entry_is_refused(entry: object, message: str) -> None:
    [line] = refused({"models": {"llama": entry}})
    assert message in line


def test_not_a_block_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be a block of keys"):
        load(["exp12"])  # type: ignore[arg-type]


def test_numbers_written_as_pyyaml_reads_them_are_accepted() -> None:
    raw = yaml.safe_load("exp12: {s_max: 1e-5, angles: 1e3}")
    assert raw["exp12"] == {"s_max": "1e-5", "angles": "1e3"}  # the trap: both are text
    config = load(raw)
    assert (config.exp12.s_max, config.exp12.angles) == (1e-5, 1000)


def test_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().exp12.angles = 3


def test_users_file_lies_on_top_of_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(USER_FILE, encoding="utf-8")
    by_files = load_files(
        [CONFIG / "config.default.yaml", CONFIG / "config.yaml", tmp_path / "my.yaml"], defaults=False
    )
    config = load_files([tmp_path / "my.yaml"])
    assert by_files == config
    assert config.select.models == ("mine",)
    assert config.models["mine"].source == "path"
    assert config.models["mine"].path == "/data/my-model"
    assert config.prompts["capital"] == Prompt(text="The capital of France is")
    assert (config.probe.mode, config.probe.dtype, config.probe.device) == ("reference", "float32", "auto")
    assert config.probe.arithmetic == ("float64",)
    assert (config.exp12.angles, config.exp12.s_max, config.exp12.threshold) == (1000, 1e-6, 0.0)
    assert config.exp13 == Config().exp13
    assert set(Config().models) < set(config.models)


def test_paper_preset_holds_the_settings_of_the_study() -> None:
    config = load_files([CONFIG / "presets" / "paper.yaml"])
    [alias] = config.select.models
    entry = config.models[alias]
    assert entry.source == "hub"
    assert entry.repo == "meta-llama/Llama-3.1-8B-Instruct"
    assert re.fullmatch("[0-9a-f]{40}", entry.revision)
    assert [config.prompts[name].text for name in config.select.prompts] == ["The capital of France is"]
    assert (config.probe.mode, effective_dtype(config, alias)) == ("reference", "float32")
    assert (config.exp12.angles, config.exp12.s_max, config.exp12.threshold) == (1000, 1e-6, 0.0)
    assert (config.exp13.vectors, config.exp13.s_max) == ("all", 1e-6)
    for walk in (config.exp1, config.exp5):
        assert (walk.start, walk.step, walk.threshold) == (1e-6 + 1815 * 2e-13, 3 * 2e-14, 0.0)
    assert config.exp1.jumps == tuple(10**k for k in range(13))
    assert (config.exp1.vectors, config.exp1.walk_steps, config.exp1.true_float64) == ((1,), 1000, True)
    assert (config.exp5.layers, config.exp5.vector, config.exp5.jumps) == ((31,), 1, (1,))
    exp2 = config.exp2
    assert exp2.powers == tuple(range(-1, -19, -1))
    assert (exp2.top_k, exp2.ranks) == (5, (50, 100, 200, 500, 1000, 2000, 4000, "last"))
    assert (exp2.noise_isotropic, exp2.noise_along, exp2.noise_powers) == (1e-2, 1e-9, (-7, -8, -9, -10))
    assert exp2.noise_samples == (2, 5, 10, 100, 1000, 2000, 4000)
    assert (config.exp3.vector, config.exp3.powers) == (1, tuple(range(-5, -13, -1)))
    assert (config.exp8.top_k, config.exp8.smallest_decade, config.exp8.largest_decade) == (5, -15, -1)
    recorder = config.recorder
    assert (recorder.tokens, recorder.tap_steps) == (1000, 200)
    assert recorder.tap_questions == ("earth_center", "telepathy", "mole_treaty")
    for name in config.select.pairs:
        platforms = [config.platforms[alias] for alias in config.pairs[name]]
        assert {(platform.dtype, platform.decode) for platform in platforms} == {(name, "uncached")}


@pytest.mark.parametrize("path", sorted(CONFIG.glob("test/*.yaml")), ids=lambda path: path.name)
def test_configs_of_ci_load(path: Path) -> None:
    assert load_files([path]).probe.threads == 1


def test_users_file_as_cloned_changes_nothing() -> None:
    # Not empty either: Snakemake refuses a config file without a key.
    assert read_yaml(CONFIG / "config.yaml")
    assert load_files([CONFIG / "config.yaml"]) == Config()


def test_blocks_merge_and_lists_replace() -> None:
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert merged(base, {"a": {"y": [3]}, "c": {}}) == {"a": {"x": 1, "y": [3]}, "b": 1, "c": {}}
    assert base == {"a": {"x": 1, "y": [1, 2]}, "b": 1}


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_empty_file_is_an_empty_block(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    assert read_yaml(tmp_path / "c.yaml") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a: 1\nb: [1, 2\nc: 3\n", r"c\.yaml, line 3, column 2: not valid YAML"),
        (b"exp12: {angles: 1}\nexp12: {s_max: 1}\n", r"line 2, column 1: .*'exp12' is written twice"),
        (b"a: 1\nb: \x07\n", r"c\.yaml, line 2: not valid YAML"),
        (b"a: !!python/object:os.system {}\n", r"c\.yaml, line 1.*not valid YAML"),
        (b"d: 2026-13-45\n", r"c\.yaml: not valid YAML"),
        (b"\xff\xfe\xfa", "it is not UTF-8 text"),
        (b"- a\n- b\n", r"must hold a block of keys \(key: value\), but it holds \['a', 'b'\]"),
    ],
)
def test_unreadable_file_is_named_with_the_line(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "c.yaml").write_bytes(text)
    with pytest.raises(ConfigError, match=message):
        load_files([tmp_path / "c.yaml"])


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the config file .*none\.yaml: No such file"):
        load_files([tmp_path / "none.yaml"])


def test_own_dtype_of_a_model_wins() -> None:
    models = {"a": {**PATH_MODEL, "dtype": "float16"}, "b": PATH_MODEL}
    config = load({"models": models, "select": {"models": ["a"]}, "probe": {"dtype": "bfloat16"}})
    assert (effective_dtype(config, "a"), effective_dtype(config, "b")) == ("float16", "bfloat16")
    with pytest.raises(ConfigError, match="'c' is not defined under `models`"):
        effective_dtype(config, "c")


def test_block_gives_plain_data() -> None:
    config = load({"exp12": {"angles": 7}})
    assert block(config, "exp12", "angles", "plane") == {"angles": 7, "plane": [1, 2]}
    assert set(block(config, "exp15", "variants")) == {"variants"}
    assert set(block(config, "exp15")) == set(config.model_dump()["exp15"])
    assert block(config, "models")["gpt2"]["architecture"] == "gpt2"
    with pytest.raises(ConfigError, match="exp_12: no such config block; did you mean 'exp12'"):
        block(config, "exp_12")
    with pytest.raises(ConfigError, match=r"exp12\.angle: no such config key; did you mean 'angles'"):
        block(config, "exp12", "angle")


positive = st.floats(min_value=1e-40, max_value=1e30)
counts = st.integers(min_value=1, max_value=10**6)
aliases = st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,12}\Z")
texts = st.text(min_size=1, max_size=30).filter(lambda text: text.strip() != "")


@st.composite
def raw_configs(draw: st.DrawFn) -> dict[str, Any]:
    prompts = draw(st.dictionaries(aliases, st.fixed_dictionaries({"text": texts}), min_size=1, max_size=3))
    search = {"s_max": positive, "threshold": positive, "tolerance": positive}
    return {
        "prompts": prompts,
        "select": {"models": ["llama"], "prompts": draw(st.permutations(sorted(prompts)))},
        "probe": {
            "batch_size": draw(st.just("auto") | counts),
            "max_memory": draw(st.just("auto") | positive),
            "arithmetic": draw(st.permutations(["float64", "float32"])),
            "device": draw(st.sampled_from(["auto", "cpu", "cuda", "cuda:3"])),
        },
        "exp12": draw(st.fixed_dictionaries({"angles": counts, **search})),
        "exp13": draw(st.fixed_dictionaries({"vectors": st.just("all") | counts, **search})),
    }


@settings(deadline=None, max_examples=40)
@given(raw_configs())
def test_dump_and_load_give_the_same_config(raw: dict[str, Any]) -> None:
    config = load(raw)
    dumped = config.model_dump(mode="json")
    assert load(dumped) == config
    # Through YAML text too, as a run's config is stored beside its results.
    # Escaped: written plainly, YAML would read the control character U+0085 as an end of line.
    assert load(yaml.safe_load(yaml.safe_dump(dumped))) == config
    assert config.exp12.s_max == raw["exp12"]["s_max"]
    assert {alias: prompt.text for alias, prompt in config.prompts.items()} == {
        alias: prompt["text"] for alias, prompt in raw["prompts"].items()
    }
