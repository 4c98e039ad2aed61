"""exp4 in the graph: recordings of two platforms once, then each part below the one that it needs."""

import csv

TARGETS = ("results/exp4/summary.csv", "results/exp4/angles/summary.csv", "results/exp4/tiny/types/drift.png")
PAIR = {
    f"exp4_{part}": 1
    for part in ("divergence", "dimensions", "drift", "embedding_comparison", "logits", "summary", "angles_summary")
}


def test_each_part_follows_the_one_it_needs(fresh):
    fresh.config = {
        **fresh.config,
        "platforms": {"wide": {"threads": 1}, "narrow": {"dtype": "bfloat16", "threads": 1}},
        "pairs": {"types": ["wide", "narrow"]},
        "select": {"models": ["tiny"], "prompts": ["capital"], "pairs": ["types"]},
        "recorder": {"names": ["capital", "dream"], "tokens": 6, "taps": "stages"},
        "exp4": {"block": 64},
    }
    jobs = {
        **PAIR,
        "exp4_measure": 1,
        "exp4_embeddings": 2,
        "exp4_angles_measure": 2,
        "record": 2,
        "unembedding": 2,
        "manifest": 1,
    }
    assert fresh.stale(*TARGETS) == jobs
    fresh.run(*TARGETS)
    assert fresh.stale(*TARGETS) == {}
    with (fresh.folder / TARGETS[0]).open() as file:
        (row,) = csv.DictReader(file)
    names = [row[name] for name in ("model", "pair", "platform_a", "platform_b", "dtype_b", "questions")]
    assert names == ["tiny", "types", "wide", "narrow", "bfloat16", "2"]
    assert row["questions_differing_in_bits"] == "2"
    # What only parts 3 and 7 look at reruns them and what joins the parts, and no recording or comparison.
    fresh.config = {**fresh.config, "exp4": {"block": 64, "ulps": [1, 2], "ranks": [1, 5]}}
    stale = {
        "exp4_dimensions": 1,
        "exp4_angles_measure": 2,
        "exp4_angles_summary": 1,
        "exp4_measure": 1,
        "exp4_summary": 1,
    }
    assert fresh.stale(*TARGETS) == stale
