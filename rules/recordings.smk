# Recordings of the selected platforms (exp4 part 1, exp8 parts 1 and 5), and the unembedding they are read with.


rule record:
    """Recording one model on one platform."""
    input:
        manifest=graph.manifest,
        questions=graph.questions_file,
    output:
        recordings=graph.recording("{model}", "{platform}"),
    log:
        "logs/recordings/{model}/{platform}.log",
    benchmark:
        "benchmarks/recordings/{model}/{platform}.tsv"
    wildcard_constraints:
        platform=graph.shards.unless("recordings", graph.names("platforms", imported=False)),
    conda:
        "../envs/run.yaml"
    threads: graph.platform_threads
    resources:
        **graph.placement(),
        gpu=graph.platform_gpus,
        mem_mb=graph.memory,
        disk_mb=graph.recording_disk(),
    params:
        directory=graph.directory,
        attention=graph.attention,
        platform=graph.platform,
        recorder=graph.block("recorder"),
        code=graph.code("experiments.recordings", "experiments.session"),
    message:
        "Recording {wildcards.model} on platform '{wildcards.platform}'"
    script:
        "../scripts/record.py"


rule recordings_summary:
    """Summary of the recordings."""
    input:
        recordings=[path for row in graph.recorded() for path in graph.recording(**row)],
    output:
        table=summary("recordings"),
    log:
        "logs/recordings/summary.log",
    benchmark:
        "benchmarks/recordings/summary.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    params:
        rows=graph.recorded(),
        code=graph.code("experiments.recording_summary"),
    message:
        "Summary of the recordings"
    script:
        "../scripts/recordings_summary.py"


rule unembedding:
    """Unembedding of one model in one type."""
    input:
        manifest=graph.manifest,
    output:
        data="results/unembedding/{model}/{dtype}/unembedding.h5",
    log:
        "logs/unembedding/{model}/{dtype}.log",
    benchmark:
        "benchmarks/unembedding/{model}/{dtype}.tsv"
    conda:
        "../envs/run.yaml"
    resources:
        mem_mb=graph.memory,
    params:
        directory=graph.directory,
        attention=graph.attention,
        code=graph.code("experiments.unembedding", "experiments.session"),
    message:
        "Unembedding of {wildcards.model} in {wildcards.dtype}"
    script:
        "../scripts/unembedding.py"
