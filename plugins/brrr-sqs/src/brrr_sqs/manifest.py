"""Manifest of brrr-sqs. This module imports no client library."""

from typing import Final

from brrr_core.backend import BackendManifest, QueueCapabilities
from brrr_sqs.bodies import MAX_BODY
from brrr_sqs.options import SqsOptions

__all__ = ["MANIFEST"]

MANIFEST: Final = BackendManifest(
    contract=1,
    schemes=("sqs",),
    summary="queue on Amazon SQS, two queues per topic",
    example="sqs://brrr?region=eu-west-1",
    backend="brrr_sqs.backend:SqsBackend",
    options=SqsOptions,
    # SQS takes whole seconds. Delays of more than 15 minutes end by the clocks of the machines.
    queue=QueueCapabilities(
        durable=True, shared=True, delay=True, max_body=MAX_BODY, resolution=1.0, exact_stats=False, server_clock=False
    ),
)
