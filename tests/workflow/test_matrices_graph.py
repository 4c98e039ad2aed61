"""exp9 and pdf in the graph: weights without a prompt, documents by name, and what makes either stale."""

TARGETS = (
    "results/exp9/summary.csv",
    "results/pdf/summary.csv",
    "results/exp9/tiny/heatmaps.png",
    "results/pdf/tiny/sample/course.png",
)


def test_they_run_for_real_and_know_what_is_theirs(fresh):
    fresh.config = {**fresh.config, "pdf": {"window": 32, "batch_size": 4}}
    exp9 = {"exp9_measure": 1, "exp9_figures": 1, "exp9_summary": 1}
    pdf = {"pdf_measure": 1, "pdf_figures": 1, "pdf_summary": 1}
    assert fresh.stale(*TARGETS) == {"manifest": 1, "exp9_components": 1, **exp9, **pdf}
    fresh.run(*TARGETS)
    assert fresh.stale(*TARGETS) == {}
    lines = (fresh.folder / "results/exp9/summary.csv").read_text().splitlines()
    assert lines[0].startswith("model,component,matrices,values")
    assert {line.split(",")[1] for line in lines[1:]} >= {"embedding", "q", "k", "v", "o", "gate", "up", "down"}
    rows = (fresh.folder / "results/pdf/summary.csv").read_text().splitlines()
    assert len(rows) == 2
    assert rows[1].startswith("tiny,sample,3,")
    # The map of components stays when only the statistics change; documents know nothing of either.
    fresh.config = {**fresh.config, "exp9": {"svd": "float32"}}
    assert fresh.stale(*TARGETS) == exp9
    fresh.config = {**fresh.config, "exp9": {}, "pdf": {"window": 32, "batch_size": 4, "stride": 8}}
    assert fresh.stale(*TARGETS) == pdf
    # A second document is a second job, and an unknown one an error that names the key.
    other = {"documents": {"mine": "mine.pdf"}, "select": ["mine"], "window": 32, "batch_size": 4}
    fresh.config = {**fresh.config, "pdf": other}
    missing = fresh.run("--dry-run", "results/pdf/summary.csv", check=False)
    assert missing.returncode
    assert "mine.pdf" in missing.stdout + missing.stderr
    fresh.config = {**fresh.config, "pdf": {"select": ["other"]}}
    unknown = fresh.run("--dry-run", "results/pdf/summary.csv", check=False)
    assert "pdf.select: 'other' is not defined under `pdf.documents`" in unknown.stdout + unknown.stderr
