"""Rule exp10_chain: a fixed chain of matrix products on one platform."""

from tremor import job, platform
from tremor.experiments import session
from tremor.store.provenance import collect


def run(inputs, params, outputs):
    request = session.platform_request(params.platform)
    session.isolate(request)
    platform.apply(request)
    device = platform.resolve_device(request.device)
    from tremor.experiments import matrix_chain  # imports torch, for which the platform has been set

    matrix_chain.run(
        device=device,
        settings=params.settings,
        data=outputs.data,
        attributes={"platform": params.wildcards.platform},
        provenance=collect(
            seeds={"chain": params.settings["chain_seed"]},
            platform=platform.fingerprint(request, device),
            model={},
            **job.provenance(inputs, params),
        ),
    )


if "snakemake" in globals():
    job.main(run, snakemake)  # noqa: F821
