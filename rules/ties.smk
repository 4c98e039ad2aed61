# Ties of the two leading tokens (exp6), the flips around them, and maps over planes through them (exp7).


rule exp6_tie:
    """Tie of one model at one prompt."""
    input:
        manifest=graph.manifest,
    output:
        data="results/exp6/{model}/{prompt}/{tie}/tie.h5",
        history="results/exp6/{model}/{prompt}/{tie}/history.csv",
        statistics="results/exp6/{model}/{prompt}/{tie}/tie.json",
    log:
        "logs/exp6/{model}/{prompt}/{tie}/tie.log",
    benchmark:
        "benchmarks/exp6/{model}/{prompt}/{tie}/tie.tsv"
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
        settings=graph.block("exp6", "max_evaluations"),
        code=graph.code("experiments.ties", "experiments.session"),
    message:
        "Tie ({wildcards.tie}) of {wildcards.model} at '{wildcards.prompt}'"
    script:
        "../scripts/exp6_tie.py"


rule exp6_spectrum:
    """Spectrum at the tie of one model at one prompt."""
    input:
        manifest=graph.manifest,
        tie=rules.exp6_tie.output.data,
    output:
        data="results/exp6/{model}/{prompt}/{tie}/spectrum.h5",
        statistics="results/exp6/{model}/{prompt}/{tie}/spectrum.json",
    log:
        "logs/exp6/{model}/{prompt}/{tie}/spectrum.log",
    benchmark:
        "benchmarks/exp6/{model}/{prompt}/{tie}/spectrum.tsv"
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
        probe=graph.block("probe", "device", "threads", "max_memory"),
        settings=graph.block("spectrum"),
        code=graph.code("experiments.spectrum", "experiments.ties", "experiments.session"),
    message:
        "Spectrum at the tie ({wildcards.tie}) of {wildcards.model} at '{wildcards.prompt}'"
    script:
        "../scripts/exp6_spectrum.py"


rule exp6_flips:
    """Flips around the tie of one model at one prompt."""
    input:
        manifest=graph.manifest,
        tie=rules.exp6_tie.output.data,
        spectrum=rules.exp6_spectrum.output.data,
        tie_statistics=rules.exp6_tie.output.statistics,
    output:
        table="results/exp6/{model}/{prompt}/{tie}/{arithmetic}/flips.parquet",
        intervals="results/exp6/{model}/{prompt}/{tie}/{arithmetic}/intervals.csv",
        nearest="results/exp6/{model}/{prompt}/{tie}/{arithmetic}/nearest.csv",
        statistics="results/exp6/{model}/{prompt}/{tie}/{arithmetic}/statistics.json",
    log:
        "logs/exp6/{model}/{prompt}/{tie}/{arithmetic}.log",
    benchmark:
        "benchmarks/exp6/{model}/{prompt}/{tie}/{arithmetic}.tsv"
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
        settings=graph.block("exp6", "directions", "epsilon", "steps", "max_distinct_inputs"),
        code=graph.code("experiments.ties", "experiments.session"),
    message:
        "Flips around the tie ({wildcards.tie}) of {wildcards.model} at '{wildcards.prompt}' ({wildcards.arithmetic})"
    script:
        "../scripts/exp6_flips.py"


rule exp6_figures:
    """Figures of exp6: one model at one prompt."""
    input:
        history=rules.exp6_tie.output.history,
        tie=rules.exp6_tie.output.statistics,
        table=rules.exp6_flips.output.table,
        nearest=rules.exp6_flips.output.nearest,
    output:
        **figures("exp6"),
    log:
        "logs/exp6/{model}/{prompt}/{tie}/{arithmetic}.figures.log",
    benchmark:
        "benchmarks/exp6/{model}/{prompt}/{tie}/{arithmetic}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        code=graph.code("figures.ties", "figures.save"),
    message:
        "Figures of exp6 ({wildcards.tie}): {wildcards.model} at '{wildcards.prompt}' ({wildcards.arithmetic})"
    script:
        "../scripts/exp6_figures.py"


rule exp6_summary:
    """Summary of exp6."""
    input:
        statistics=files(
            "results/exp6/{model}/{prompt}/{tie}/{arithmetic}/statistics.json",
            graph.rows(more=graph.axes("exp6")),
        ),
    output:
        table=summary("exp6"),
    log:
        "logs/exp6/summary.log",
    benchmark:
        "benchmarks/exp6/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        experiment="exp6",
        rows=graph.rows(more=graph.axes("exp6")),
        code=graph.code("experiments.summaries"),
    message:
        "Summary of exp6"
    script:
        "../scripts/summary.py"


rule exp7_measure:
    """Planes through the tie of one model at one prompt."""
    input:
        manifest=graph.manifest,
        tie=rules.exp6_tie.output.data,
        spectrum=rules.exp6_spectrum.output.data,
    output:
        data="results/exp7/{model}/{prompt}/{tie}/{arithmetic}/planes.h5",
    log:
        "logs/exp7/{model}/{prompt}/{tie}/{arithmetic}.log",
    benchmark:
        "benchmarks/exp7/{model}/{prompt}/{tie}/{arithmetic}.tsv"
    wildcard_constraints:
        model=graph.whole("exp7"),
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
        settings=graph.block("exp7", "planes", "radii", "points"),
        code=graph.code("experiments.planes", "experiments.session"),
    message:
        "Planes through the tie ({wildcards.tie}) of {wildcards.model} at '{wildcards.prompt}' ({wildcards.arithmetic})"
    script:
        "../scripts/exp7.py"


rule exp7_zoom:
    """Zoom into the planes of one model at one prompt."""
    input:
        manifest=graph.manifest,
        tie=rules.exp6_tie.output.data,
        spectrum=rules.exp6_spectrum.output.data,
        planes=rules.exp7_measure.output.data,
    output:
        data="results/exp7/{model}/{prompt}/{tie}/{arithmetic}/zoom.h5",
    log:
        "logs/exp7/{model}/{prompt}/{tie}/{arithmetic}.zoom.log",
    benchmark:
        "benchmarks/exp7/{model}/{prompt}/{tie}/{arithmetic}.zoom.tsv"
    wildcard_constraints:
        model=graph.whole("exp7_zoom"),
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
        settings=graph.block("exp7", "planes", "zoom_method", "zoom_window", "zoom_points"),
        code=graph.code("experiments.planes", "experiments.randomness", "experiments.session"),
    message:
        "Zoom into the planes ({wildcards.tie}) of {wildcards.model} at '{wildcards.prompt}' ({wildcards.arithmetic})"
    script:
        "../scripts/exp7_zoom.py"


rule exp7_randomness:
    """Randomness of the maps of one model at one prompt."""
    input:
        planes=rules.exp7_measure.output.data,
    output:
        table="results/exp7/{model}/{prompt}/{tie}/{arithmetic}/maps.csv",
        tests="results/exp7/{model}/{prompt}/{tie}/{arithmetic}/randomness.csv",
    log:
        "logs/exp7/{model}/{prompt}/{tie}/{arithmetic}.randomness.log",
    benchmark:
        "benchmarks/exp7/{model}/{prompt}/{tie}/{arithmetic}.randomness.tsv"
    conda:
        "../envs/run.yaml"
    params:
        settings=graph.block("exp7", "draws", "window", "seed"),
        code=graph.code("experiments.randomness"),
    message:
        "Randomness of the maps ({wildcards.tie}) of {wildcards.model} at '{wildcards.prompt}' ({wildcards.arithmetic})"
    script:
        "../scripts/exp7_randomness.py"


rule exp7_figures:
    """Figures of exp7: one model at one prompt."""
    input:
        planes=rules.exp7_measure.output.data,
        zoom=rules.exp7_zoom.output.data,
        tests=rules.exp7_randomness.output.tests,
    output:
        **figures("exp7"),
    log:
        "logs/exp7/{model}/{prompt}/{tie}/{arithmetic}.figures.log",
    benchmark:
        "benchmarks/exp7/{model}/{prompt}/{tie}/{arithmetic}.figures.tsv"
    conda:
        "../envs/run.yaml"
    params:
        figures=graph.block("figures"),
        settings=graph.block("exp7", "window", "enlarge"),
        code=graph.code("figures.planes", "figures.save"),
    message:
        "Figures of exp7 ({wildcards.tie}): {wildcards.model} at '{wildcards.prompt}' ({wildcards.arithmetic})"
    script:
        "../scripts/exp7_figures.py"


rule exp7_summary:
    """Summary of exp7."""
    input:
        tables=files("results/exp7/{model}/{prompt}/{tie}/{arithmetic}/maps.csv", graph.rows(more=graph.axes("exp7"))),
    output:
        table=summary("exp7"),
    log:
        "logs/exp7/summary.log",
    benchmark:
        "benchmarks/exp7/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        rows=graph.rows(more=graph.axes("exp7")),
        code=graph.code("experiments.randomness"),
    message:
        "Summary of exp7"
    script:
        "../scripts/exp7_summary.py"
