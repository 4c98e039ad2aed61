"""exp5 and regimes in the graph: one job for each model and prompt, below one spectrum that they share."""

TARGETS = (
    "results/exp5/summary.csv",
    "results/regimes/summary.csv",
    "results/exp5/tiny/capital/chain.png",
    "results/regimes/tiny/capital/regimes.png",
)


def test_they_share_one_spectrum_and_run_for_real(fresh):
    fresh.config = {
        **fresh.config,
        "exp5": {"jumps": [1, 100000]},
        "regimes": {"per_decade": 4, "bootstrap": 20, "directions": [1]},
    }
    jobs = {
        "exp5_measure": 1,
        "exp5_figures": 1,
        "exp5_summary": 1,
        "regimes_measure": 1,
        "regimes_figures": 1,
        "regimes_summary": 1,
    }
    assert fresh.stale(*TARGETS) == {**jobs, "spectrum_measure": 1, "manifest": 1}
    fresh.run(*TARGETS)
    assert fresh.stale(*TARGETS) == {}
    for experiment in ("exp5", "regimes"):
        lines = (fresh.folder / f"results/{experiment}/summary.csv").read_text().splitlines()
        assert len(lines) == 2
        assert lines[1].startswith("tiny,capital,")
    # A setting of the one is none of the other's, and neither is the spectrum's.
    fresh.config = {**fresh.config, "exp5": {"jumps": [1]}}
    assert fresh.stale(*TARGETS) == {"exp5_measure": 1, "exp5_figures": 1, "exp5_summary": 1}
    fresh.config = {**fresh.config, "exp5": {"jumps": [1, 100000]}, "figures": {"formats": ["png"], "dpi": 50}}
    assert fresh.stale(*TARGETS) == {"exp5_figures": 1, "regimes_figures": 1}
