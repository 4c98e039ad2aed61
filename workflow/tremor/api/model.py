"""A model that is open, and what can be measured of it; torch modules are imported where they are used."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from tremor import platform
from tremor.api import places, recordings
from tremor.api.weights import Ablation, Gain, Ranking
from tremor.config import Config
from tremor.errors import ConfigError
from tremor.experiments.session import Session

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tremor.api.point import Point
    from tremor.models.anatomy import Anatomy

Bos = Literal["auto", "always", "never"]
Operation = Literal["zero", "mean", "sign"]


@dataclass(frozen=True, eq=False)
class Model:
    """A model on a platform, ready to be measured.

    Attributes:
        name: Its alias in the configuration, or the name of its folder.
        session: The loaded model with its manifest, as the workflow's jobs have it.
        config: The configuration, whose blocks are the defaults of all measurements.
        request: The platform. It is set up again before each measurement, for other models may have changed it.
    """

    name: str
    session: Session
    config: Config
    request: platform.Request

    def __repr__(self) -> str:
        anatomy, applied = self.anatomy, self.session.fingerprint["applied"]
        size = sum(parameter.numel() for parameter in self.session.loaded.model.parameters())
        return (
            f"Model({self.name!r}, {type(self.session.loaded.model).__name__}, {size} parameters, "
            f"{anatomy.n_layers} blocks, width {anatomy.d_model}, {applied['dtype']} on {applied['device']})"
        )

    @property
    def anatomy(self) -> "Anatomy":
        """Where everything is in it: blocks, taps, projections."""
        found: Anatomy = self.session.loaded.anatomy
        return found

    @property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """Its tokenizer."""
        found: PreTrainedTokenizerBase = self.session.loaded.tokenizer
        return found

    @property
    def probe(self) -> dict[str, Any]:
        """The block ``probe`` of the configuration."""
        return places.block(self.config, "probe", {})

    def ready(self) -> None:
        """Set the process up for this model's platform again."""
        places.apply(self.request)

    def at(self, text: str, *, bos: Bos = "auto") -> "Point":
        """The base point of a prompt.

        Args:
            text: The prompt.
            bos: Begin-of-text token: ``auto`` leaves it to the tokenizer.

        Raises:
            PromptError: it is empty, or longer than the model's context.
        """
        self.ready()
        from tremor.api.point import Point
        from tremor.probe.base import base_point

        return Point(self, base_point(self.session.loaded, text, bos=bos))

    def record(
        self,
        text: str,
        *,
        tokens: int | None = None,
        taps: Literal["final", "stages", "all"] | None = None,
        decode: Literal["cached", "uncached"] = "cached",
        path: Path | str | None = None,
    ) -> recordings.Recording:
        """Let it answer greedily, and keep what it held at each token (docs/recordings.md).

        Args:
            text: The prompt.
            tokens: Most tokens; None for ``recorder.tokens``.
            taps: States that are kept; None for ``recorder.taps``.
            decode: Position by position on stored keys and values, or the whole sequence again for every token.
            path: File to keep (.h5), of the workflow's own format.

        Raises:
            ConfigError: no such taps or way of decoding, or no token.
            PromptError: the prompt is empty, or fills the context.
            NumericsError: a logit is NaN or infinite.
        """
        if decode not in ("cached", "uncached"):
            raise ConfigError(f"decode {decode!r} is unknown; use cached or uncached")
        own = {name: value for name, value in (("tokens", tokens), ("taps", taps)) if value is not None}
        settings = places.block(self.config, "recorder", own)
        self.ready()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "recording.h5" if path is None else Path(path)
            self._record(text, settings, decode, file)
            found = recordings.read_recording(file)
        return replace(found, path=None) if path is None else found

    def _record(self, text: str, settings: Mapping[str, Any], decode: Any, file: Path) -> None:
        from tremor.experiments.recordings import model_attributes
        from tremor.record.decode import check_decoder, prompt_ids
        from tremor.record.questions import Question
        from tremor.record.recording import SCHEMA, TapPlan, record
        from tremor.record.taps import choose

        loaded = self.session.loaded
        ids = prompt_ids(loaded, text)
        taps = choose(loaded, settings["taps"], ids, decode)
        check_decoder(loaded, [ids], decode)
        record(
            loaded,
            [Question(1, "q01", "factual", text)],
            [ids],
            [TapPlan(taps, [tap.name for tap in taps], None)],
            paths=[file],
            mode=decode,
            tokens=settings["tokens"],
            rows=1,
            attributes={**model_attributes(self.session), "decode": decode, "schema": SCHEMA},
            provenance=self.session.provenance(config={"recorder": dict(settings)}, code="", inputs={}),
        )

    def score(
        self,
        name: str,
        texts: Sequence[str] = (),
        k: int = 10,
        *,
        layers: Sequence[int] | None = None,
        components: Sequence[str] | None = None,
        smallest: bool = False,
        **settings: Any,
    ) -> Ranking:
        """Rank single weights by a score (docs/critical_weights.md).

        Args:
            name: Such as ``taylor_abs``, ``magnitude``, ``wanda``, ``fisher_true``.
            texts: Calibration texts; not read by scores that need weights only.
            k: How many weights to list.
            layers: Blocks, from 0; None for all.
            components: Such as ``q``, ``down``, ``mlp``; None for all matrices.
            smallest: List the smallest scores instead of the largest.
            settings: Of ``critical_weights.scores``: seed, probes, steps, ...

        Raises:
            ConfigError: no such score, block, component or setting.
            PromptError: it needs texts and there are none.
        """
        own = places.block(self.config, "critical_weights.scores", settings)
        self.ready()
        from tremor.experiments.critical_rankings import options
        from tremor.weights.scores import rankings
        from tremor.weights.select import select

        selection = select(self.anatomy, layers=layers, components=components)
        found = rankings(
            [name],
            self.session.loaded,
            list(texts),
            k,
            selection=selection,
            options=options({"scores": own, "bos": self.config.critical_weights.bos}),
            directions=("bottom",) if smallest else ("top",),
            run_id=self.session.loaded.digest[:16],
        )[name]
        (table,) = found.tables.values()
        return Ranking(name, table, selection.count, found.seconds, found.notes)

    def ablate(
        self,
        weights: Ranking | pd.DataFrame,
        texts: Sequence[str],
        *,
        operation: Operation = "zero",
        controls: int = 20,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> Ablation:
        """Change weights, measure held-out text, put them back bit for bit; then the same for random weights.

        Args:
            weights: A ranking, or a table with the columns tensor and flat_index.
            texts: Held-out texts, not those that a score has read.
            operation: ``zero``, ``mean`` (of the tensor) or ``sign`` (turned over).
            controls: Random sets of as many weights of the same tensors.
            seed: Of these sets.
            batch_size: Texts in one forward pass; None for ``esa.texts.batch_size``.

        Raises:
            ConfigError: no weights, or no such operation.
            NumericsError: not one weight changed.
        """
        scorer, table = (weights.scorer, weights.table) if isinstance(weights, Ranking) else ("", weights)
        if not len(table) or not texts:
            raise ConfigError("an ablation needs at least one weight and one held-out text; give some")
        self.ready()
        from tremor.experiments.esa_shared import Bench
        from tremor.experiments.esa_tables import against_controls
        from tremor.weights import mutate

        operations = {"zero": mutate.zero, "mean": mutate.mean, "sign": mutate.sign}
        if operation not in operations:
            raise ConfigError(f"operation {operation!r} is unknown; use one of {', '.join(operations)}")
        change = operations[operation]
        bench = Bench(self.session.loaded, list(texts), batch_size=batch_size or self.config.esa.texts.batch_size)
        tensors, flat = table["tensor"].tolist(), table["flat_index"].tolist()
        first = bench.changed(tensors[:1], flat[:1], change).delta_nll
        effect = bench.changed(tensors, flat, change)
        drawn = bench.controls(tensors, flat, draws=controls, seed=seed, operation=change)
        found: dict[str, Any] = {**asdict(effect), **against_controls(effect, drawn)}
        return Ablation(
            scorer=scorer,
            first_delta_nll=first,
            **found,
            controls=np.array(drawn, dtype=np.float64),
            nll_clean=float(bench.clean.evaluation.nll),
        )

    def gain(self, texts: str | Sequence[str], **settings: Any) -> Gain:
        """How much a small change of each block's output changes the answer at the last position (docs/delta.md).

        Args:
            texts: One text, or several.
            settings: Of the block ``delta.jacobian``: layers, targets, method, tolerance, probes, seed, ...

        Raises:
            ConfigError: no such setting or block, or no text.
            NumericsError: a number is NaN or infinite.
        """
        asked = (texts,) if isinstance(texts, str) else tuple(texts)
        if not asked:
            raise ConfigError("a gain needs at least one text; give some")
        own = places.block(self.config, "delta.jacobian", settings)
        self.ready()
        from tremor.experiments import delta_jacobian as jacobians
        from tremor.experiments.delta_layers import Model as Described
        from tremor.experiments.delta_layers import gain_row
        from tremor.probe.base import token_ids

        loaded = self.session.loaded
        ids = [token_ids(loaded, text) for text in asked]
        layers = jacobians.chosen_layers(own["layers"], self.anatomy.n_layers)
        clean = jacobians.clean_states(loaded, ids, layers)
        found = jacobians.layer_gains(self.session, ids, layers, clean, own)
        mixers = tuple(parts.mixer_kind for parts in self.anatomy.block_parts)
        described = Described(self.anatomy.n_layers, mixers, str(loaded.dtype).removeprefix("torch."))
        rows = [gain_row(described, layer, place, found, own["targets"]) for place, layer in enumerate(layers)]
        return Gain(self.name, pd.DataFrame(rows), found, np.array(layers, dtype=np.int64), asked)
