"""exp10, part 1: a fixed chain of matrix products on one platform, every step of it kept.

R_k = R_(k-1) W_k. The matrices are drawn on the CPU, rounded there to the type under test and digested: two platforms
whose digests agree started from the same bits, so whatever differs later is arithmetic.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tremor import floats
from tremor.progress import Progress
from tremor.store.arrays import Bf16
from tremor.store.hdf5 import Hdf5Writer

Array = npt.NDArray[Any]
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def matrices(dim: int, count: int, scale: float, *, seed: int, dtype: str) -> Iterator[Array]:
    """The start matrix and then the factors, one at a time.

    Args:
        dim: Rows and columns.
        count: Number of factors.
        scale: Standard deviation of a factor's entries; those of the start matrix have 1.
        seed: Of the draw, the same for every type.
        dtype: Type that the entries are rounded to.

    Yields:
        ``count + 1`` matrices [dim, dim] on the lattice of `dtype`, in its carrier.
    """
    generator = np.random.default_rng(seed)
    for index in range(count + 1):
        drawn = generator.standard_normal((dim, dim)) * (scale if index else 1.0)
        yield floats.round_to(drawn, dtype)


def scale_of(scale: float | str, dim: int) -> float:
    """``auto`` keeps entries at size 1: each entry of a product is a sum of `dim` terms."""
    return float(dim**-0.5) if scale == "auto" else float(scale)


def run(
    *,
    device: str,
    settings: Mapping[str, Any],
    data: Path,
    provenance: Mapping[str, Any],
    attributes: Mapping[str, Any],
) -> None:
    """Run the chain in each type and write every product.

    Args:
        device: Where the products are done, on a platform that has been applied.
        settings: The keys of config block ``exp10`` that begin with ``chain_``.
        data: HDF5 file: ``product/<dtype>`` [steps, dim, dim]; ``error/<dtype>`` [steps] against the same chain in
            float64, relative; ``unrepeated/<dtype>`` [steps] entries that any repetition gave other bits for.
        provenance: Of the file.
        attributes: Further ones for the file.
    """
    digests: dict[str, str] = {}
    steps = int(settings["chain_matrices"])
    with Hdf5Writer(data, attributes=attributes, provenance=provenance) as file:
        with Progress(len(settings["chain_dtypes"]) * steps, "products") as progress:
            for dtype in settings["chain_dtypes"]:
                digests[dtype] = _chain(file, dtype, device, settings, progress)
        names = ("chain_dim", "chain_matrices", "chain_scale", "chain_seed", "chain_repeats")
        file.attributes |= {name.removeprefix("chain_"): settings[name] for name in names}
        file.attributes |= {"inputs_sha256": digests, "dtypes": list(settings["chain_dtypes"])}


def _chain(file: Hdf5Writer, dtype: str, device: str, settings: Mapping[str, Any], progress: Progress) -> str:
    """One type's chain; returns the digest of its inputs."""
    dim, repeats = int(settings["chain_dim"]), int(settings["chain_repeats"])
    file.create(f"product/{dtype}", (dim, dim), Bf16 if dtype == "bfloat16" else np.dtype(dtype))
    digest = hashlib.sha256()
    errors, unrepeated = [], []
    products: list[Tensor] = []
    exact = torch.empty(0)
    drawn = matrices(
        dim, int(settings["chain_matrices"]), scale_of(settings["chain_scale"], dim),
        seed=int(settings["chain_seed"]), dtype=dtype,
    )  # fmt: skip
    with torch.no_grad():
        for index, matrix in enumerate(drawn):
            digest.update(floats.bits(matrix, dtype).tobytes())
            wide = torch.from_numpy(matrix).to(device)
            factor = wide.to(TYPES[dtype])  # exact: the entries lie on the type's lattice
            if index == 0:
                products, exact = [factor] * repeats, wide.double()
                continue
            products = [product @ factor for product in products]
            exact = exact @ wide.double()
            patterns = [_patterns(product) for product in products]
            unrepeated.append(
                sum((other != patterns[0]) for other in patterns[1:]).astype(bool).sum() if repeats > 1 else 0
            )
            errors.append(float(torch.linalg.norm(products[0].double() - exact) / torch.linalg.norm(exact)))
            file.append(f"product/{dtype}", _stored(patterns[0], dtype))
            progress.advance()
    file.write(f"error/{dtype}", np.array(errors))
    file.write(f"unrepeated/{dtype}", np.array(unrepeated, dtype=np.int64))
    return digest.hexdigest()


def _patterns(product: Tensor) -> Array:
    """The bits of a product."""
    integer = torch.int32 if product.dtype == torch.float32 else torch.int16
    return np.asarray(product.contiguous().view(integer).cpu().numpy())


def _stored(patterns: Array, dtype: str) -> Array | Bf16:
    return Bf16(patterns) if dtype == "bfloat16" else patterns.view(dtype)
