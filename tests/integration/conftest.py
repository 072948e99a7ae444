"""The backends that each workflow runs on."""

from brrr_testkit.servers.aws import aws_environment, aws_prefix, aws_run, dynamo_endpoint, moto_endpoint, sqs_endpoint
from brrr_testkit.servers.nats import nats_server
from brrr_testkit.servers.redis import redis_server
from tests.support.backends import dynamo_url, memory, places, url

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
