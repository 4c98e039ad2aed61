# The Lipschitz studies of the originals' un-numbered scripts, and the report on one step.


rule lipschitz_measure:
    """One of the Lipschitz studies of one model."""
    input:
        manifest=graph.manifest,
        prompts=graph.prompt_set("lipschitz"),
    output:
        data="results/lipschitz/{model}/{study}/spectra.h5",
        table="results/lipschitz/{model}/{study}/prompts.csv",
        quotients="results/lipschitz/{model}/{study}/quotients.csv",
        statistics="results/lipschitz/{model}/{study}/statistics.json",
    log:
        "logs/lipschitz/{model}/{study}.log",
    benchmark:
        "benchmarks/lipschitz/{model}/{study}.tsv"
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.memory,
    params:
        directory=graph.directory,
        attention=graph.attention,
        dtype=graph.model_dtype,
        probe=graph.block("probe", *PROBE_KEYS),
        spectrum=graph.block("spectrum"),
        settings=lambda wildcards: graph.block("lipschitz", *graph.study_keys(wildcards.study)),
        code=graph.code("experiments.lipschitz", "experiments.session"),
    message:
        "Lipschitz study '{wildcards.study}' of {wildcards.model}"
    script:
        "../scripts/lipschitz.py"


rule lipschitz_figures:
    """Figure of the One of the Lipschitz studies of one model."""
    input:
        quotients=rules.lipschitz_measure.output.quotients,
    output:
        **figures("lipschitz"),
    log:
        "logs/lipschitz/{model}/{study}.figures.log",
    benchmark:
        "benchmarks/lipschitz/{model}/{study}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.quotients", "figures.save"),
    message:
        "Figure of the Lipschitz study '{wildcards.study}' of {wildcards.model}"
    script:
        "../scripts/lipschitz_figures.py"


rule lipschitz_summary:
    """Summary of the Lipschitz studies."""
    input:
        statistics=files(
            "results/lipschitz/{model}/{study}/statistics.json",
            graph.rows(prompts=False, more=graph.axes("lipschitz")),
        ),
    output:
        table=summary("lipschitz"),
    log:
        "logs/lipschitz/summary.log",
    benchmark:
        "benchmarks/lipschitz/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="lipschitz",
        rows=graph.rows(prompts=False, more=graph.axes("lipschitz")),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of the Lipschitz studies"
    script:
        "../scripts/summary.py"


rule lipschitz_report:
    """Rounding error report of one model at one prompt."""
    input:
        manifest=graph.manifest,
        spectrum=graph.spectrum,
    output:
        data="results/lipschitz/{model}/report/{prompt}/vectors.h5",
        text="results/lipschitz/{model}/report/{prompt}/report.txt",
        statistics="results/lipschitz/{model}/report/{prompt}/statistics.json",
    log:
        "logs/lipschitz/{model}/report/{prompt}.log",
    benchmark:
        "benchmarks/lipschitz/{model}/report/{prompt}.tsv"
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.memory,
    params:
        directory=graph.directory,
        attention=graph.attention,
        dtype=graph.model_dtype,
        prompt=graph.prompt,
        probe=graph.block("probe", *PROBE_KEYS),
        settings=graph.block("lipschitz", "report_step", "report_vector", "arithmetic", "floor_samples", "noise_seed"),
        code=graph.code("experiments.lipschitz", "experiments.session"),
    message:
        "Rounding error report of {wildcards.model} at '{wildcards.prompt}'"
    script:
        "../scripts/lipschitz_report.py"


rule lipschitz_reports:
    """Summary of the rounding error reports."""
    input:
        statistics=files("results/lipschitz/{model}/report/{prompt}/statistics.json", graph.rows()),
    output:
        table="results/lipschitz/reports.csv",
    log:
        "logs/lipschitz/reports.log",
    benchmark:
        "benchmarks/lipschitz/reports.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="lipschitz_report",
        rows=graph.rows(),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of the rounding error reports"
    script:
        "../scripts/summary.py"
