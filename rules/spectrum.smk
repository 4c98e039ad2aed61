# The Jacobian and its singular vectors: once for each model, prompt and dtype, shared by all descendants.


rule spectrum_measure:
    """Jacobian and spectrum of one model at one prompt."""
    input:
        manifest=graph.manifest,
    output:
        data="results/spectrum/{model}/{prompt}/{dtype}/spectrum.h5",
        statistics="results/spectrum/{model}/{prompt}/{dtype}/statistics.json",
    log:
        "logs/spectrum/{model}/{prompt}/{dtype}.log",
    benchmark:
        "benchmarks/spectrum/{model}/{prompt}/{dtype}.tsv"
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.memory,
    params:
        directory=graph.directory,
        attention=graph.attention,
        prompt=graph.prompt,
        probe=graph.block("probe", "device", "threads", "max_memory"),
        settings=graph.block("spectrum"),
        code=graph.code("experiments.spectrum", "experiments.session"),
    message:
        "Jacobian and spectrum of {wildcards.model} at '{wildcards.prompt}'"
    script:
        "../scripts/spectrum.py"


rule spectrum_figure:
    """Figure of the spectrum of one model at one prompt."""
    input:
        data=rules.spectrum_measure.output.data,
        statistics=rules.spectrum_measure.output.statistics,
    output:
        spectrum=shown(graph.formats("results/spectrum/{model}/{prompt}/{dtype}/spectrum"), "spectrum", "spectrum"),
    log:
        "logs/spectrum/{model}/{prompt}/{dtype}.figure.log",
    benchmark:
        "benchmarks/spectrum/{model}/{prompt}/{dtype}.figure.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.spectrum", "figures.save"),
    message:
        "Figure of the spectrum of {wildcards.model} at '{wildcards.prompt}'"
    script:
        "../scripts/spectrum_figure.py"


rule spectrum_summary:
    """Summary of the spectra."""
    input:
        statistics=files("results/spectrum/{model}/{prompt}/{dtype}/statistics.json", graph.rows(dtype=True)),
    output:
        table=summary("spectrum"),
    log:
        "logs/spectrum/summary.log",
    benchmark:
        "benchmarks/spectrum/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="spectrum",
        rows=graph.rows(dtype=True),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of the spectra"
    script:
        "../scripts/summary.py"
