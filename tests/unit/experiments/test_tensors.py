"""exp10, parts 1 and 2: a chain of products, its inputs, and two chains compared."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tremor import floats
from tremor.errors import ArtifactError
from tremor.experiments import matrix_chain, tensors
from tremor.store.arrays import Bf16
from tremor.store.documents import read_json
from tremor.store.hdf5 import read_hdf5, write_hdf5
from tremor.store.tables import read_csv

SETTINGS = {
    "chain_dim": 16, "chain_matrices": 4, "chain_scale": "auto", "chain_seed": 3, "chain_repeats": 2,
    "chain_dtypes": ["float32", "bfloat16", "float16"],
}  # fmt: skip
ORIGIN = {"config": {}, "code": "", "inputs": {}}


def chain(path: Path, **changes: Any) -> Path:
    matrix_chain.run(
        device="cpu", settings={**SETTINGS, **changes}, data=path, attributes={"platform": "here"}, provenance={}
    )
    return path


def altered(source: Path, path: Path, name: str, place: tuple[int, int, int], pattern: int) -> Path:
    """A copy of a chain with the bits of one entry replaced."""
    found = read_hdf5(source)
    value = found.datasets[name]
    bits = value.bits.copy() if isinstance(value, Bf16) else value.view(np.int32 if "32" in name else np.int16).copy()
    bits[place] = pattern
    datasets = {**found.datasets, name: Bf16(bits) if isinstance(value, Bf16) else bits.view(value.dtype)}
    write_hdf5(path, datasets, attributes=found.attributes, provenance={})
    return path


def compare(a: Path, b: Path, folder: Path) -> Path:
    tensors.compare(
        a, b, steps=folder / "steps.csv", types=folder / "types.csv", statistics=folder / "statistics.json",
        provenance=ORIGIN,
    )  # fmt: skip
    return folder


def test_the_chain_is_the_product(tmp_path: Path) -> None:
    found = read_hdf5(chain(tmp_path / "a.h5"))
    for dtype, eps in (("float32", 2.0**-23), ("bfloat16", 2.0**-7), ("float16", 2.0**-10)):
        drawn = list(matrix_chain.matrices(16, 4, 0.25, seed=3, dtype=dtype))
        exact = drawn[0].astype(np.float64)
        for step, factor in enumerate(drawn[1:]):
            assert floats.bits(factor, dtype).shape == (16, 16)
            exact = exact @ factor.astype(np.float64)
            value = found.datasets[f"product/{dtype}"]
            product = (value.to_float32() if isinstance(value, Bf16) else value)[step].astype(np.float64)
            error = np.linalg.norm(product - exact) / np.linalg.norm(exact)
            assert error == pytest.approx(found.array(f"error/{dtype}")[step], rel=1e-6)
            # One rounding of an entry a step, and that of sums: some eps.
            assert error < 4 * (step + 1) * eps
    assert found.attributes["scale"] == "auto"


def test_inputs_are_the_same_wherever_they_are_drawn(tmp_path: Path) -> None:
    """The original drew them on the device, so that two machines began with different data."""
    a, b = (read_hdf5(chain(tmp_path / f"{name}.h5")).attributes["inputs_sha256"] for name in "ab")
    assert a == b
    assert len(set(a.values())) == 3
    other = read_hdf5(chain(tmp_path / "c.h5", chain_seed=4)).attributes["inputs_sha256"]
    assert other["float32"] != a["float32"]


def test_the_same_platform_gives_zeros(tmp_path: Path) -> None:
    folder = compare(chain(tmp_path / "a.h5"), chain(tmp_path / "b.h5"), tmp_path)
    table, types = read_csv(folder / "steps.csv"), read_csv(folder / "types.csv")
    assert table["equal_bits"].all()
    assert (table[["n_changed_bits", "max_abs", "ulp_max", "relative_l2", "unrepeated_a"]].to_numpy() == 0).all()
    assert types["first_differing_step"].isna().all()
    assert types["repeats_agree"].all()
    assert read_json(folder / "statistics.json")["identical"]


def test_a_product_that_does_not_repeat_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The original ran its chain once: a platform that differs from itself looked like one that differs from others."""
    patterns, asked = matrix_chain._patterns, iter(range(100))

    def unsteady(product: torch.Tensor) -> Any:
        bits = patterns(product).copy()
        # Three repetitions a step: entry 1 differs in the second, entries 1 and 2 in the third.
        bits.reshape(-1)[1 : 1 + next(asked) % 3] ^= 1
        return bits

    monkeypatch.setattr(matrix_chain, "_patterns", unsteady)
    a = chain(tmp_path / "a.h5", chain_repeats=3, chain_dtypes=["float32"])
    assert read_hdf5(a).array("unrepeated/float32").tolist() == [2, 2, 2, 2]
    types = read_csv(compare(a, a, tmp_path) / "types.csv")
    assert types["identical"].all()
    assert not types["repeats_agree"].any()


def test_one_changed_bit_is_found_where_it_is(tmp_path: Path) -> None:
    a = chain(tmp_path / "a.h5")
    value = read_hdf5(a).array("product/float32")[2, 5, 7]
    b = altered(a, tmp_path / "b.h5", "product/float32", (2, 5, 7), int(value.view(np.int32)) + 3)
    table = read_csv(compare(a, b, tmp_path) / "steps.csv")
    types = read_csv(tmp_path / "types.csv").set_index("dtype")
    (changed,) = table[~table["equal_bits"]].to_dict("records")
    assert (changed["dtype"], changed["step"], changed["n_changed_bits"]) == ("float32", 3, 1)
    assert (changed["first_row"], changed["first_column"], changed["first_index"]) == (5, 7, 5 * 16 + 7)
    assert changed["ulp_max"] == 3
    assert types.loc["float32", "first_differing_step"] == 3
    assert types.loc[["bfloat16", "float16"], "identical"].all()


def test_signed_zeros_differ_and_nan_is_never_equal(tmp_path: Path) -> None:
    """torch.equal takes +0 and -0 for the same, and the original's count of positive differences misses NaN."""
    a = chain(tmp_path / "a.h5")
    zero = altered(a, tmp_path / "zero.h5", "product/bfloat16", (0, 0, 0), 0)
    minus = altered(a, tmp_path / "minus.h5", "product/bfloat16", (0, 0, 0), -(2**15))
    row = read_csv(compare(zero, minus, tmp_path) / "steps.csv").set_index(["dtype", "step"]).loc[("bfloat16", 1)]
    assert (row["n_changed_bits"], row["n_signed_zero"], row["ulp_max"]) == (1, 1, 0)
    nan = altered(a, tmp_path / "nan.h5", "product/float32", (3, 1, 1), 0x7FC00000)
    row = read_csv(compare(nan, nan, tmp_path) / "steps.csv").set_index(["dtype", "step"]).loc[("float32", 4)]
    assert (row["n_changed_bits"], row["n_nan_a"], row["n_nan_b"]) == (1, 1, 1)


def test_other_inputs_are_refused(tmp_path: Path) -> None:
    a, b = chain(tmp_path / "a.h5"), chain(tmp_path / "b.h5", chain_seed=9)
    with pytest.raises(ArtifactError, match="seed"):
        compare(a, b, tmp_path)
    found = read_hdf5(a)
    digests = {**found.attributes["inputs_sha256"], "float32": "0" * 64}
    write_hdf5(
        tmp_path / "c.h5", found.datasets, attributes={**found.attributes, "inputs_sha256": digests}, provenance={}
    )
    with pytest.raises(ArtifactError, match="different float32 matrices"):
        compare(a, tmp_path / "c.h5", tmp_path)


def test_overflow_is_counted(tmp_path: Path) -> None:
    folder = compare(
        chain(tmp_path / "a.h5", chain_scale=60.0, chain_dtypes=["float16"]),
        chain(tmp_path / "b.h5", chain_scale=60.0, chain_dtypes=["float16"]),
        tmp_path,
    )
    last = read_csv(folder / "steps.csv").iloc[-1]
    assert last["n_inf_a"] + last["n_nan_a"] > 0
    assert np.isnan(last["relative_l2"])
