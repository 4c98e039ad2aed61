"""A private copy of the workflow, a tiny model at a path in it, and a way to run Snakemake on them."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("Snakefile", "workflow", "rules", "scripts", "envs", "config", "resources")


def settings() -> dict[str, object]:
    """A real config, as small as it can be: a tiny random Llama beside the results, 8 angles, 2 vectors."""
    return {
        "models": {"tiny": {"source": "path", "path": "model"}},
        "prompts": {"capital": {"text": "The capital of France is"}},
        "select": {"models": ["tiny"], "prompts": ["capital"]},
        "probe": {"arithmetic": ["float64"], "threads": 1, "batch_size": 16},
        "exp12": {"angles": 8},
        "exp13": {"vectors": 2, "random_directions": 2},
        "figures": {"formats": ["png"]},
    }


@dataclass
class Project:
    """A checkout in a folder of its own, run in that folder."""

    folder: Path
    config: dict[str, object] = field(default_factory=settings)

    @property
    def model(self) -> Path:
        """Folder of the model; part of the project, so that a copy of the project has its own."""
        return self.folder / "model"

    def command(self, *arguments: str) -> list[str]:
        path = self.folder / "test-config.yaml"
        # Written only when it changed: a config file's time is no reason for a rerun, but keep it honest.
        text = yaml.safe_dump(self.config)
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
        snakemake = Path(sys.executable).with_name("snakemake")
        # --configfile takes several files, so something else must follow it before the targets.
        return [str(snakemake), "--configfile", str(path), "--scheduler", "greedy", "--cores", "2", *arguments]

    def run(self, *arguments: str, check: bool = True, timeout: int = 300) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(f"snakemake {arguments} failed:\n{done.stdout}\n{done.stderr}")
        return done

    def stale(self, *targets: str) -> dict[str, int]:
        """Jobs that a dry run would run, by rule."""
        output = self.run("--dry-run", *targets).stdout
        if "Job stats:" not in output:
            assert "Nothing to be done" in output, output
            return {}
        table = output.split("Job stats:")[1].split("total")[0].splitlines()
        rows = [line.split() for line in table if line.strip() and not line.startswith(("job ", "---"))]
        return {name: int(count) for name, count in rows}

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert old in text, f"{name} no longer holds {old!r}"
        path.write_text(text.replace(old, new, 1))


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def checkout(folder: Path) -> Path:
    """Copy what a clone holds; models built here and results stay behind."""
    folder.mkdir(parents=True, exist_ok=True)
    ignored = shutil.ignore_patterns("__pycache__", "models", "*.egg-info")
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            # resources/models is built by the workflow; workflow/tremor/models is code and is needed.
            shutil.copytree(source, folder / part, ignore=ignored if part == "resources" else _caches)
        else:
            shutil.copy2(source, folder / part)
    return folder


_caches = shutil.ignore_patterns("__pycache__", "*.egg-info")
