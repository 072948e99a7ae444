"""The backends that each workflow runs on."""

from brrr_testkit.servers.aws import aws_environment, aws_prefix, aws_run, dynamo_endpoint, moto_endpoint, sqs_endpoint
from tests.support.backends import dynamo_url, memory, nats_server, places, redis_server, url

__all__ = [
    "aws_environment",
    "aws_prefix",
    "aws_run",
    "dynamo_endpoint",
    "dynamo_url",
    "memory",
    "moto_endpoint",
    "nats_server",
    "places",
    "redis_server",
    "sqs_endpoint",
    "url",
]
