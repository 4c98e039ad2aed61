"""What a descendant demands of the artifact it continues: the same model, prompt, platform, mode and input bits."""

from pathlib import Path
from typing import Any

import numpy as np

from tremor import platform
from tremor.errors import ArtifactError
from tremor.experiments.session import Session
from tremor.probe.base import BasePoint
from tremor.store.hdf5 import Hdf5Artifact


def require_ancestor(
    artifact: Hdf5Artifact, path: Path, session: Session, base: BasePoint, *, rule: str, **expected: Any
) -> None:
    """Refuse an ancestor made from other weights, another prompt, or on another platform.

    Args:
        artifact: The ancestor as read.
        path: Its file, for the message.
        session: The present session.
        base: The present base point; ids and input bits must be those of the ancestor.
        rule: Rule that makes the ancestor, for the remedy.
        expected: Attributes that must be equal, such as ``mode``.

    Raises:
        ArtifactError: something differs; both values are named.
    """
    remedy = f"make it again here: run snakemake with `--forcerun {rule}`"
    for name, value in expected.items():
        found = artifact.attributes.get(name)
        if found != value:
            raise ArtifactError(f"{path} was made with {name}={found!r}, this job has {name}={value!r}; {remedy}")
    digest = artifact.provenance.get("model", {}).get("weights_digest")
    if digest != session.manifest["weights_digest"]:
        raise ArtifactError(f"{path} was made from other weights than {session.manifest['alias']} has now; {remedy}")
    platform.require_same(artifact.provenance.get("platform", {}), session.fingerprint, path=path, rule=rule)
    same_ids = np.array_equal(artifact.array("ids"), base.ids)
    if not same_ids or artifact.array("x0").tobytes() != base.x.tobytes():
        raise ArtifactError(f"{path} starts from another input than the prompt {base.text!r} gives now; {remedy}")
