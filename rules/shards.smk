# Shards: where the config cuts an experiment into several jobs, these rules stand for its single one.


rule boundary_shard:
    """A part of the boundary of one model at one prompt."""
    input:
        manifest=graph.manifest,
        spectrum=graph.spectrum,
    output:
        part=temp("results/{experiment}/{model}/{prompt}/{arithmetic}/shards/{shard}.h5"),
    log:
        "logs/{experiment}/{model}/{prompt}/{arithmetic}.{shard}.log",
    benchmark:
        "benchmarks/{experiment}/{model}/{prompt}/{arithmetic}.{shard}.tsv"
    wildcard_constraints:
        experiment=graph.shards.several("exp12", "exp13"),
        shard=graph.shards.pattern,
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
        settings=graph.experiment_block,
        code=graph.code("experiments.boundary", "experiments.session"),
    message:
        "Boundary ({wildcards.experiment}, {wildcards.shard}) of {wildcards.model} at '{wildcards.prompt}'"
    script:
        "../scripts/boundary_shard.py"


rule boundary_gather:
    """Boundary of one model at one prompt, gathered."""
    input:
        parts=graph.shards.parts("results/{experiment}/{model}/{prompt}/{arithmetic}/shards/{shard}.h5"),
    output:
        data="results/{experiment}/{model}/{prompt}/{arithmetic}/boundary.h5",
        table="results/{experiment}/{model}/{prompt}/{arithmetic}/boundary.csv",
        statistics="results/{experiment}/{model}/{prompt}/{arithmetic}/statistics.json",
    log:
        "logs/{experiment}/{model}/{prompt}/{arithmetic}.gather.log",
    benchmark:
        "benchmarks/{experiment}/{model}/{prompt}/{arithmetic}.gather.tsv"
    wildcard_constraints:
        experiment=graph.shards.several("exp12", "exp13"),
    conda:
        "../envs/run.yaml"
    resources:
        mem_mb=graph.shards.memory,
    params:
        code=graph.code("experiments.boundary_results", "store.shards"),
    message:
        "Boundary ({wildcards.experiment}) of {wildcards.model} at '{wildcards.prompt}', gathered"
    script:
        "../scripts/boundary_gather.py"


rule exp7_shard:
    """A part of the planes through the tie of one model at one prompt."""
    input:
        manifest=graph.manifest,
        tie=rules.exp6_tie.output.data,
        spectrum=rules.exp6_spectrum.output.data,
    output:
        part=temp("results/exp7/{model}/{prompt}/{tie}/{arithmetic}/shards/{shard}.h5"),
    log:
        "logs/exp7/{model}/{prompt}/{tie}/{arithmetic}.{shard}.log",
    benchmark:
        "benchmarks/exp7/{model}/{prompt}/{tie}/{arithmetic}.{shard}.tsv"
    wildcard_constraints:
        model=graph.sharded("exp7"),
        shard=graph.shards.pattern,
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
        "Planes through the tie ({wildcards.tie}, {wildcards.shard}) of {wildcards.model} at '{wildcards.prompt}'"
    script:
        "../scripts/exp7_shard.py"


rule exp7_gather:
    """Planes through the tie of one model at one prompt, gathered."""
    input:
        parts=graph.shards.parts("results/exp7/{model}/{prompt}/{tie}/{arithmetic}/shards/{shard}.h5", "exp7"),
    output:
        data="results/exp7/{model}/{prompt}/{tie}/{arithmetic}/planes.h5",
    log:
        "logs/exp7/{model}/{prompt}/{tie}/{arithmetic}.gather.log",
    benchmark:
        "benchmarks/exp7/{model}/{prompt}/{tie}/{arithmetic}.gather.tsv"
    wildcard_constraints:
        model=graph.sharded("exp7"),
    conda:
        "../envs/run.yaml"
    resources:
        mem_mb=graph.shards.memory,
    params:
        code=graph.code("experiments.plane_results", "store.shards"),
    message:
        "Planes through the tie ({wildcards.tie}) of {wildcards.model} at '{wildcards.prompt}', gathered"
    script:
        "../scripts/exp7_gather.py"


rule exp7_zoom_shard:
    """A part of the zoom into the planes of one model at one prompt."""
    input:
        manifest=graph.manifest,
        tie=rules.exp6_tie.output.data,
        spectrum=rules.exp6_spectrum.output.data,
    output:
        part=temp("results/exp7/{model}/{prompt}/{tie}/{arithmetic}/shards/zoom.{shard}.h5"),
    log:
        "logs/exp7/{model}/{prompt}/{tie}/{arithmetic}.zoom.{shard}.log",
    benchmark:
        "benchmarks/exp7/{model}/{prompt}/{tie}/{arithmetic}.zoom.{shard}.tsv"
    wildcard_constraints:
        model=graph.sharded("exp7_zoom"),
        shard=graph.shards.pattern,
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
        code=graph.code("experiments.planes", "experiments.session"),
    message:
        "Zoom into the planes ({wildcards.tie}, {wildcards.shard}) of {wildcards.model} at '{wildcards.prompt}'"
    script:
        "../scripts/exp7_zoom_shard.py"


rule exp7_zoom_gather:
    """Zoom into the planes of one model at one prompt, gathered."""
    input:
        parts=graph.shards.parts("results/exp7/{model}/{prompt}/{tie}/{arithmetic}/shards/zoom.{shard}.h5", "exp7_zoom"),
    output:
        data="results/exp7/{model}/{prompt}/{tie}/{arithmetic}/zoom.h5",
    log:
        "logs/exp7/{model}/{prompt}/{tie}/{arithmetic}.zoom.gather.log",
    benchmark:
        "benchmarks/exp7/{model}/{prompt}/{tie}/{arithmetic}.zoom.gather.tsv"
    wildcard_constraints:
        model=graph.sharded("exp7_zoom"),
    conda:
        "../envs/run.yaml"
    resources:
        mem_mb=graph.shards.memory,
    params:
        code=graph.code("experiments.plane_results", "store.shards"),
    message:
        "Zoom into the planes ({wildcards.tie}) of {wildcards.model} at '{wildcards.prompt}', gathered"
    script:
        "../scripts/exp7_zoom_gather.py"


rule exp2_shard:
    """A part of the gains over a set of prompts: one model in one precision."""
    input:
        manifest=graph.manifest,
        prompts=graph.prompt_set("exp2"),
    output:
        part=temp("results/exp2/{model}/{precision}/shards/{shard}.h5"),
    log:
        "logs/exp2/{model}/{precision}.{shard}.log",
    benchmark:
        "benchmarks/exp2/{model}/{precision}.{shard}.tsv"
    wildcard_constraints:
        model=graph.sharded("exp2"),
        shard=graph.shards.pattern,
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
        "Gains over a set of prompts ({wildcards.shard}): {wildcards.model} in {wildcards.precision}"
    script:
        "../scripts/exp2_shard.py"


rule exp2_gather:
    """Gains over a set of prompts: one model in one precision, gathered."""
    input:
        parts=graph.shards.parts("results/exp2/{model}/{precision}/shards/{shard}.h5", "exp2"),
    output:
        data="results/exp2/{model}/{precision}/spectra.h5",
        table="results/exp2/{model}/{precision}/prompts.csv",
        quotients="results/exp2/{model}/{precision}/quotients.csv",
        averages="results/exp2/{model}/{precision}/averages.csv",
        statistics="results/exp2/{model}/{precision}/statistics.json",
    log:
        "logs/exp2/{model}/{precision}.gather.log",
    benchmark:
        "benchmarks/exp2/{model}/{precision}.gather.tsv"
    wildcard_constraints:
        model=graph.sharded("exp2"),
    conda:
        "../envs/run.yaml"
    resources:
        mem_mb=graph.shards.memory,
    params:
        code=graph.code("experiments.gain_results", "store.shards"),
    message:
        "Gains over a set of prompts: {wildcards.model} in {wildcards.precision}, gathered"
    script:
        "../scripts/exp2_gather.py"


# A rule for each shard of the questions, as their files differ.
for shard, suffix in graph.recording_shards():

    rule:
        name:
            f"record{suffix}"
        input:
            manifest=graph.manifest,
            questions=graph.questions_file,
        output:
            recordings=graph.recording("{model}", "{platform}", shard),
        log:
            f"logs/recordings/{{model}}/{{platform}}{suffix}.log",
        benchmark:
            f"benchmarks/recordings/{{model}}/{{platform}}{suffix}.tsv"
        wildcard_constraints:
            platform=graph.names("platforms", imported=False),
        conda:
            "../envs/run.yaml"
        threads: graph.platform_threads
        resources:
            **graph.placement(),
            gpu=graph.platform_gpus,
            mem_mb=graph.memory,
            disk_mb=graph.recording_disk(shard),
        params:
            directory=graph.directory,
            attention=graph.attention,
            platform=graph.platform,
            recorder=graph.block("recorder"),
            code=graph.code("experiments.recordings", "experiments.session"),
        message:
            f"Recording {{wildcards.model}} on platform '{{wildcards.platform}}' ({shard.number} of {shard.count})"
        script:
            "../scripts/record.py"
