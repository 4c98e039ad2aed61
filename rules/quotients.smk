# Difference quotients over a set of prompts (exp2).


rule exp2_measure:
    """Gains over a set of prompts: one model in one precision."""
    input:
        manifest=graph.manifest,
        prompts=graph.prompt_set("exp2"),
    output:
        data="results/exp2/{model}/{precision}/spectra.h5",
        table="results/exp2/{model}/{precision}/prompts.csv",
        quotients="results/exp2/{model}/{precision}/quotients.csv",
        averages="results/exp2/{model}/{precision}/averages.csv",
        statistics="results/exp2/{model}/{precision}/statistics.json",
    log:
        "logs/exp2/{model}/{precision}.log",
    benchmark:
        "benchmarks/exp2/{model}/{precision}.tsv"
    wildcard_constraints:
        model=graph.whole("exp2"),
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.memory,
    params:
        directory=graph.directory,
        attention=graph.attention,
        probe=graph.block("probe", *PROBE_KEYS),
        spectrum=graph.block("spectrum"),
        settings={k: v for k, v in graph.block("exp2").items() if k not in ("prompts", "precisions")},
        code=graph.code("experiments.average_lipschitz", "experiments.session"),
    message:
        "Gains over a set of prompts: {wildcards.model} in {wildcards.precision}"
    script:
        "../scripts/exp2.py"


rule exp2_figures:
    """Figures of exp2: one model in one precision."""
    input:
        table=rules.exp2_measure.output.table,
        quotients=rules.exp2_measure.output.quotients,
        averages=rules.exp2_measure.output.averages,
    output:
        **figures("exp2"),
    log:
        "logs/exp2/{model}/{precision}.figures.log",
    benchmark:
        "benchmarks/exp2/{model}/{precision}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.quotients", "figures.save"),
    message:
        "Figures of exp2: {wildcards.model} in {wildcards.precision}"
    script:
        "../scripts/exp2_figures.py"


rule exp2_summary:
    """Summary of exp2."""
    input:
        statistics=files(
            "results/exp2/{model}/{precision}/statistics.json", graph.rows(prompts=False, more=graph.axes("exp2"))
        ),
    output:
        table=summary("exp2"),
    log:
        "logs/exp2/summary.log",
    benchmark:
        "benchmarks/exp2/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="exp2",
        rows=graph.rows(prompts=False, more=graph.axes("exp2")),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of exp2"
    script:
        "../scripts/summary.py"
