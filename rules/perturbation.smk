# Noise at all positions: the Llama and GPT perturbation tests of the originals.


rule perturbation_measure:
    """Noise at all positions of one model in one precision."""
    input:
        manifest=graph.manifest,
    output:
        table="results/perturbation/{model}/{precision}/perturbation.csv",
        statistics="results/perturbation/{model}/{precision}/statistics.json",
    log:
        "logs/perturbation/{model}/{precision}.log",
    benchmark:
        "benchmarks/perturbation/{model}/{precision}.tsv"
    conda:
        "../envs/run.yaml"
    threads: graph.config.probe.threads
    resources:
        gpu=1,
        mem_mb=graph.memory,
    params:
        directory=graph.directory,
        attention=graph.attention,
        prompts={name: graph.plain["prompts"][name] for name in graph.prompts},
        probe=graph.block("probe", "device", "threads", "max_memory"),
        settings={k: v for k, v in graph.block("perturbation").items() if k != "precisions"},
        code=graph.code("experiments.perturbation", "experiments.session"),
    message:
        "Noise at all positions of {wildcards.model} in {wildcards.precision}"
    script:
        "../scripts/perturbation.py"


rule perturbation_figures:
    """Figure of the perturbation tests: one model in one precision."""
    input:
        table=rules.perturbation_measure.output.table,
    output:
        **figures("perturbation"),
    log:
        "logs/perturbation/{model}/{precision}.figures.log",
    benchmark:
        "benchmarks/perturbation/{model}/{precision}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.perturbation", "figures.save"),
    message:
        "Figure of the perturbation tests: {wildcards.model} in {wildcards.precision}"
    script:
        "../scripts/perturbation_figures.py"


rule perturbation_summary:
    """Summary of the perturbation tests."""
    input:
        statistics=files(
            "results/perturbation/{model}/{precision}/statistics.json",
            graph.rows(prompts=False, more=graph.axes("perturbation")),
        ),
    output:
        table=summary("perturbation"),
    log:
        "logs/perturbation/summary.log",
    benchmark:
        "benchmarks/perturbation/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="perturbation",
        rows=graph.rows(prompts=False, more=graph.axes("perturbation")),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of the perturbation tests"
    script:
        "../scripts/summary.py"
