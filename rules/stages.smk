# Where inside the model two platforms part, and what becomes of it (exp8).


rule exp8_measure:
    """The first stage of one model in which two platforms differ."""
    input:
        a=graph.first_recordings,
        b=graph.second_recordings,
    output:
        divergence="results/exp8/{model}/{pair}/divergence.csv",
        table="results/exp8/{model}/{pair}/stages.csv",
        statistics="results/exp8/{model}/{pair}/divergence.json",
    log:
        "logs/exp8/{model}/{pair}.log",
    benchmark:
        "benchmarks/exp8/{model}/{pair}.tsv"
    conda:
        "../envs/run.yaml"
    params:
        code=graph.code("experiments.stage_divergence"),
    message:
        "Where {wildcards.model} parts between the platforms of '{wildcards.pair}'"
    script:
        "../scripts/exp8.py"


rule exp8_angles:
    """What the final norm of one model does to angles on two platforms."""
    input:
        a=graph.first_recordings,
        b=graph.second_recordings,
        divergence=rules.exp8_measure.output.divergence,
        unembedding=graph.first_unembedding,
    output:
        table="results/exp8/{model}/{pair}/angles.csv",
        ranking="results/exp8/{model}/{pair}/ranking.csv",
        statistics="results/exp8/{model}/{pair}/angles.json",
    log:
        "logs/exp8/{model}/{pair}.angles.log",
    benchmark:
        "benchmarks/exp8/{model}/{pair}.angles.tsv"
    conda:
        "../envs/run.yaml"
    params:
        settings=graph.block("exp8", "top_k"),
        code=graph.code("experiments.norm_effect"),
    message:
        "What the final norm of {wildcards.model} does to angles ('{wildcards.pair}')"
    script:
        "../scripts/exp8_angles.py"


rule exp8_path:
    """Path of the decision in one model on two platforms."""
    input:
        a=graph.first_recordings,
        b=graph.second_recordings,
        divergence=rules.exp8_measure.output.divergence,
        unembedding=graph.first_unembedding,
    output:
        path="results/exp8/{model}/{pair}/path.csv",
        first="results/exp8/{model}/{pair}/first.csv",
        growth="results/exp8/{model}/{pair}/growth.csv",
        statistics="results/exp8/{model}/{pair}/path.json",
    log:
        "logs/exp8/{model}/{pair}.path.log",
    benchmark:
        "benchmarks/exp8/{model}/{pair}.path.tsv"
    conda:
        "../envs/run.yaml"
    params:
        code=graph.code("experiments.decision_path"),
    message:
        "Path of the decision in {wildcards.model} ('{wildcards.pair}')"
    script:
        "../scripts/exp8_path.py"


rule exp8_kernels:
    """Unembedding kernels of one platform on given vectors of one model."""
    input:
        manifest=graph.manifest,
        recordings=graph.first_recordings,
        divergence=rules.exp8_measure.output.divergence,
    output:
        data="results/exp8/{model}/{pair}/kernels/{platform}.h5",
    log:
        "logs/exp8/{model}/{pair}.kernels.{platform}.log",
    benchmark:
        "benchmarks/exp8/{model}/{pair}.kernels.{platform}.tsv"
    wildcard_constraints:
        platform=graph.names("platforms", imported=False),
    conda:
        "../envs/run.yaml"
    threads: graph.platform_threads
    resources:
        **graph.placement(),
        gpu=graph.platform_gpus,
        mem_mb=graph.memory,
    params:
        directory=graph.directory,
        attention=graph.attention,
        platform=graph.arithmetic_of,
        code=graph.code("experiments.kernels", "experiments.session"),
    message:
        "Unembedding kernels of platform '{wildcards.platform}' on given vectors of {wildcards.model}"
    script:
        "../scripts/exp8_kernels.py"


rule exp8_kernel_comparison:
    """Unembedding kernels of two platforms, compared."""
    input:
        unpack(graph.kernels),
        recordings=graph.first_recordings,
        divergence=rules.exp8_measure.output.divergence,
    output:
        table="results/exp8/{model}/{pair}/kernels.csv",
        dots="results/exp8/{model}/{pair}/dots.csv",
        statistics="results/exp8/{model}/{pair}/kernels.json",
    log:
        "logs/exp8/{model}/{pair}.kernels.log",
    benchmark:
        "benchmarks/exp8/{model}/{pair}.kernels.tsv"
    conda:
        "../envs/run.yaml"
    params:
        code=graph.code("experiments.kernel_comparison"),
    message:
        "Comparing the unembedding kernels of '{wildcards.pair}' ({wildcards.model})"
    script:
        "../scripts/exp8_kernel_comparison.py"


rule exp8_values:
    """Values of all stages of one model on two platforms."""
    input:
        a=graph.first_recordings,
        b=graph.second_recordings,
        divergence=rules.exp8_measure.output.divergence,
    output:
        table="results/exp8/{model}/{pair}/values.csv",
        data="results/exp8/{model}/{pair}/values.h5",
        statistics="results/exp8/{model}/{pair}/values.json",
    log:
        "logs/exp8/{model}/{pair}.values.log",
    benchmark:
        "benchmarks/exp8/{model}/{pair}.values.tsv"
    conda:
        "../envs/run.yaml"
    params:
        settings=graph.block("exp8", "smallest_decade", "largest_decade"),
        code=graph.code("experiments.stage_values"),
    message:
        "Values of all stages of {wildcards.model} ('{wildcards.pair}')"
    script:
        "../scripts/exp8_values.py"


rule exp8_figures:
    """Figures of exp8: one model on two platforms."""
    input:
        table=rules.exp8_values.output.table,
        data=rules.exp8_values.output.data,
        path=rules.exp8_path.output.path,
        growth=rules.exp8_path.output.growth,
        angles=rules.exp8_angles.output.table,
        statistics=rules.exp8_angles.output.statistics,
    output:
        **figures("exp8"),
    log:
        "logs/exp8/{model}/{pair}.figures.log",
    benchmark:
        "benchmarks/exp8/{model}/{pair}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        names=graph.pair_of,
        figures=graph.block("figures"),
        code=graph.code("figures.stages", "figures.save"),
    message:
        "Figures of exp8: {wildcards.model}, pair '{wildcards.pair}'"
    script:
        "../scripts/exp8_figures.py"


rule exp8_statistics:
    """Statistics of exp8: one model on two platforms."""
    input:
        unpack(graph.stage_statistics),
    output:
        statistics="results/exp8/{model}/{pair}/statistics.json",
    log:
        "logs/exp8/{model}/{pair}.statistics.log",
    benchmark:
        "benchmarks/exp8/{model}/{pair}.statistics.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        code=graph.code("experiments.stage_statistics"),
    message:
        "Statistics of exp8: {wildcards.model}, pair '{wildcards.pair}'"
    script:
        "../scripts/exp8_statistics.py"


rule exp8_summary:
    """Summary of exp8."""
    input:
        statistics=files("results/exp8/{model}/{pair}/statistics.json", graph.pair_rows()),
    output:
        table=summary("exp8"),
    log:
        "logs/exp8/summary.log",
    benchmark:
        "benchmarks/exp8/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="exp8",
        rows=graph.pair_rows(),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of exp8"
    script:
        "../scripts/summary.py"
