"""Where models lie, and what a model folder must hold; fetching from the hub with the network replaced."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import errors

from families import save_tiny
from tremor.errors import ConfigError, ModelError
from tremor.models import catalogue, hub


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny GPT-2."""
    folder = tmp_path_factory.mktemp("models") / "gpt2"
    save_tiny("gpt2", folder, layers=1)
    return folder


def test_directories_by_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    resources = Path("resources")
    assert catalogue.directory("a", {"source": "embedded"}, resources) == Path("resources/models/a")
    assert catalogue.directory("b", {"source": "hub", "repo": "o/n"}, resources) == Path("resources/models/b")
    assert catalogue.directory("c", {"source": "path", "path": "~/m"}, resources) == tmp_path / "m"


def test_bad_entries_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"models\.a\.source: 'web' is unknown"):
        catalogue.directory("a", {"source": "web"}, Path())
    with pytest.raises(ConfigError, match=r"models\.a: source 'path' needs a path"):
        catalogue.directory("a", {"source": "path"}, Path())


def test_files_of_a_complete_model(saved: Path) -> None:
    assert catalogue.check(saved)["model_type"] == "gpt2"
    assert [path.name for path in catalogue.weight_files(saved)] == ["model.safetensors"]
    assert "tokenizer.json" in [path.name for path in catalogue.tokenizer_files(saved)]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        catalogue.check(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"has no config\.json"):
        catalogue.check(tmp_path)
    config = tmp_path / "config.json"
    config.write_text("{")
    with pytest.raises(ModelError, match="no valid JSON"):
        catalogue.check(tmp_path)
    config.write_text("[]")
    with pytest.raises(ModelError, match="names no model_type"):
        catalogue.check(tmp_path)
    config.write_text('{"model_type": "gpt2"}')
    with pytest.raises(ModelError, match=r"has no model\.safetensors and no"):
        catalogue.check(tmp_path)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelError, match="has no tokenizer"):
        catalogue.check(tmp_path)
    (tmp_path / "vocab.json").touch()
    with pytest.raises(ModelError, match="has no tokenizer"):
        catalogue.check(tmp_path)
    (tmp_path / "merges.txt").touch()
    assert [p.name for p in catalogue.tokenizer_files(tmp_path)] == ["merges.txt", "vocab.json"]


@pytest.mark.parametrize("suffix", ["bin", "pt", "pth", "ckpt"])
def test_every_kind_of_pickle_is_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"weights.{suffix}").touch()
    with pytest.raises(ModelError, match=rf"pickle weights only \(weights\.{suffix}\)"):
        catalogue.weight_files(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ("{}", "is damaged"),
        ('{"weight_map": {"a": "../secret.safetensors"}}', "outside the model's folder"),
        ('{"weight_map": {"a": "one.safetensors"}}', r"one\.safetensors, named in .*, is missing"),
    ],
)
def test_bad_index_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / catalogue.INDEX).write_text(text)
    with pytest.raises(ModelError, match=message):
        catalogue.weight_files(tmp_path)


# ------------------------------------------------------------------------------------------------- hub

SECRET = "hf_0123456789"


def response(status: int) -> Any:
    """What the client's errors expect of a reply."""
    return SimpleNamespace(status_code=status, headers={}, request=SimpleNamespace(url="https://hub"))


def failing(error: Exception) -> Any:
    """A download that writes something and dies."""

    def download(repo: str, *, local_dir: Path, **_: Any) -> None:
        (Path(local_dir) / "config.json").write_text("{}")
        raise error

    return download


def files(folder: Path) -> list[str]:
    """Names in a folder, hidden ones included."""
    return sorted(path.name for path in folder.iterdir())


CASES = [
    (errors.GatedRepoError("x " + SECRET, response=response(403)), "owner/name is gated: accept its licence"),
    (errors.RepositoryNotFoundError("x", response=response(404)), "there is no repository owner/name"),
    (errors.RevisionNotFoundError("x", response=response(404)), "owner/name has no revision 'abc'"),
    (errors.DisabledRepoError("x", response=response(403)), "was disabled"),
    (errors.HfHubHTTPError("x " + SECRET, response=response(503)), "answered with status 503"),
    (errors.LocalEntryNotFoundError("x"), "cannot reach the hub to fetch owner/name@abc"),
    (errors.OfflineModeIsEnabled("x"), "cannot reach the hub"),
    (hub._TRANSPORT("x"), "cannot reach the hub"),
    (errors.HFValidationError("x"), "'owner/name' is no repository name"),
    (OSError(28, "No space left on device"), "failed on the disk: No space left"),
]


@pytest.mark.parametrize(("error", "message"), CASES, ids=[type(error).__name__ for error, _ in CASES])
def test_failures_give_one_clear_error_and_leave_nothing(
    error: Exception, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "snapshot_download", failing(error))
    with pytest.raises(ModelError, match=message) as caught:
        hub.fetch("owner/name", "abc", tmp_path / "models" / "alias")
    assert SECRET not in str(caught.value)
    assert files(tmp_path / "models") == []


def test_kill_half_way_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "alias"
    target.mkdir()
    (target / "old").touch()
    monkeypatch.setattr(hub, "snapshot_download", failing(KeyboardInterrupt()))  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        hub.fetch("owner/name", "abc", target)
    assert files(tmp_path) == ["alias"]
    assert files(target) == ["old"]


def test_fetch_replaces_the_folder_and_asks_for_safe_files_only(
    tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def download(repo: str, **options: Any) -> None:
        asked.update(options, repo=repo)
        for path in saved.iterdir():
            (Path(options["local_dir"]) / path.name).write_bytes(path.read_bytes())
        (Path(options["local_dir"]) / ".cache").mkdir()

    monkeypatch.setattr(hub, "snapshot_download", download)
    target = tmp_path / "alias"
    target.mkdir()
    (target / "old").touch()
    assert hub.fetch("owner/name", "abc", target) == target
    assert files(target) == files(saved)
    assert files(tmp_path) == ["alias"]
    assert (asked["repo"], asked["revision"]) == ("owner/name", "abc")
    assert "token" not in asked
    assert not any(pattern.endswith((".py", ".bin", ".pt", "*")) for pattern in asked["allow_patterns"])


def test_repository_without_safetensors_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repo: str, *, local_dir: Path, **_: Any) -> None:
        (Path(local_dir) / "config.json").write_text(json.dumps({"model_type": "gpt2"}))

    monkeypatch.setattr(hub, "snapshot_download", download)
    with pytest.raises(ModelError, match=r"owner/name@abc: the repository has no model\.safetensors"):
        hub.fetch("owner/name", "abc", tmp_path / "alias")
    assert files(tmp_path) == []
