# Noise floors: how far every type, mode and platform is from true float64. One job for each model and platform.


rule noise_floors_measure:
    """Noise floors of one model on one platform."""
    input:
        manifest=graph.manifest,
        prompts=graph.prompt_set("noise_floors"),
    output:
        table="results/noise_floors/{model}/{platform}/floors.csv",
        details="results/noise_floors/{model}/{platform}/prompts.csv",
    log:
        "logs/noise_floors/{model}/{platform}.log",
    benchmark:
        "benchmarks/noise_floors/{model}/{platform}.tsv"
    wildcard_constraints:
        platform=graph.names("platforms", imported=False),
    conda:
        "../envs/run.yaml"
    threads: graph.platform_threads
    resources:
        **graph.placement(),
        gpu=graph.platform_gpus,
        mem_mb=graph.floor_memory,
    params:
        directory=graph.directory,
        attention=graph.attention,
        platform=graph.floor_platform,
        settings=graph.block("noise_floors", "names", "bos", "dtypes", "modes", "batch_size"),
        code=graph.code("experiments.noise_floors", "experiments.session"),
    message:
        "Noise floors of {wildcards.model} on platform '{wildcards.platform}'"
    script:
        "../scripts/noise_floors.py"


rule noise_floors_figures:
    """Figure of the noise floors of one model."""
    input:
        tables=expand("results/noise_floors/{{model}}/{platform}/floors.csv", platform=graph.floor_platforms),
    output:
        **figures("noise_floors"),
    log:
        "logs/noise_floors/{model}/floors.figures.log",
    benchmark:
        "benchmarks/noise_floors/{model}/floors.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        platforms=graph.floor_platforms,
        figures=graph.block("figures"),
        code=graph.code("figures.noise_floors", "figures.save"),
    message:
        "Figure of the noise floors of {wildcards.model}"
    script:
        "../scripts/noise_floors_figures.py"


rule noise_floors_summary:
    """Summary of the noise floors."""
    input:
        tables=files("results/noise_floors/{model}/{platform}/floors.csv", graph.floor_rows()),
    output:
        table=summary("noise_floors"),
    log:
        "logs/noise_floors/summary.log",
    benchmark:
        "benchmarks/noise_floors/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="noise_floors",
        rows=graph.floor_rows(),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of the noise floors"
    script:
        "../scripts/summary_table.py"


rule noise_floors_table:
    """Noise floors as a table for a page."""
    input:
        table=rules.noise_floors_summary.output.table,
    output:
        table="results/noise_floors/floors.md",
    log:
        "logs/noise_floors/table.log",
    benchmark:
        "benchmarks/noise_floors/table.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        code=graph.code("experiments.floor_page"),
    message:
        "Noise floors as a table for a page"
    script:
        "../scripts/noise_floors_table.py"
