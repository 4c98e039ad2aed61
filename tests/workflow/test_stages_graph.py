"""exp8 and exp10 in the graph: one recording for all parts, an edge for each artifact, chains without a model."""

TARGETS = (
    "results/exp8/summary.csv",
    "results/exp10/tensors/summary.csv",
    "results/exp8/tiny/precision/overview.png",
    "results/exp10/tensors/repeat/tensors.png",
)
PARTS = {"exp8_angles": 1, "exp8_path": 1, "exp8_kernels": 2, "exp8_kernel_comparison": 1, "exp8_values": 1}
TABLES = {"exp8_figures": 1, "exp8_statistics": 1, "exp8_summary": 1}
CHAINS = {"exp10_chain": 2, "exp10_tensors_measure": 1, "exp10_tensors_figures": 1, "exp10_tensors_summary": 1}


def settings(fresh, **changes):
    return {
        **fresh.config,
        # A control and two types: what every machine can offer.
        "select": {**fresh.config["select"], "pairs": ["precision", "repeat"]},
        "pairs": {"precision": ["native", "bfloat16"], "repeat": ["native", "again"]},
        "recorder": {"tokens": 4, "names": ["capital", "zorblax"]},
        "exp10": {"chain_dim": 8, "chain_matrices": 3},
        **changes,
    }


def test_parts_share_recordings_and_run_for_real(fresh):
    fresh.config = settings(fresh)
    fresh.config["pairs"]["other"] = ["native", "eager"]
    fresh.config["select"]["pairs"] = ["precision"]
    one_pair = fresh.stale("results/exp8/summary.csv", "results/exp8/tiny/precision/overview.png")
    assert one_pair == {"manifest": 1, "record": 2, "unembedding": 1, "exp8_measure": 1, **PARTS, **TABLES}
    # Pairs that differ in nothing that a plain product sees have no chain of their own.
    fresh.config["select"]["pairs"] = ["precision", "repeat", "other"]
    assert fresh.stale("results/exp10/tensors/summary.csv", TARGETS[3]) == CHAINS
    assert fresh.stale("results/exp10/summary.csv") == {
        "manifest": 1, "exp9_components": 1, "exp9_measure": 1, "exp10_measure": 1, "exp10_summary": 1,
    }  # fmt: skip

    fresh.config["select"]["pairs"] = ["precision"]
    fresh.run(TARGETS[0], TARGETS[2])
    assert fresh.stale(TARGETS[0], TARGETS[2]) == {}
    lines = (fresh.folder / "results/exp8/summary.csv").read_text().splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("tiny,precision,native,bfloat16,2,")
    # A setting of one part is none of the others'.
    fresh.config = {**fresh.config, "exp8": {"smallest_decade": -12}}
    assert fresh.stale(TARGETS[0]) == {"exp8_values": 1, "exp8_statistics": 1, "exp8_summary": 1}
    fresh.config = {**fresh.config, "exp8": {"top_k": 2}}
    assert fresh.stale(TARGETS[0]) == {"exp8_angles": 1, "exp8_statistics": 1, "exp8_summary": 1}


def test_chains_of_a_control_are_identical(fresh):
    fresh.config = settings(fresh)
    fresh.config["select"]["pairs"] = ["repeat"]
    fresh.run(TARGETS[1], TARGETS[3])
    lines = (fresh.folder / "results/exp10/tensors/summary.csv").read_text().splitlines()
    assert len(lines) == 3  # two types
    assert all(line.split(",")[5] == "True" for line in lines[1:])
