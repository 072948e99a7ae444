"""A program that has a session of aioboto3, and passes it to brrr's backends on AWS.

Its only argument is the endpoint of an emulator. Its environment holds no credentials.
"""

import asyncio
import sys

import aioboto3  # pyright: ignore[reportMissingImports] - not in the environment of the checks

import brrr_core as brrr


@brrr.handler_no_arg
async def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


async def main(endpoint: str) -> None:
    """Run a call on SQS and DynamoDB, and use the session again afterwards."""
    session = aioboto3.Session(
        aws_access_key_id="AKIDTEST", aws_secret_access_key="test-secret-access-key", region_name="eu-west-1"
    )
    store = brrr.open_backend("dynamo://aioboto3", endpoint=endpoint, session=session)
    await store.setup()
    async with (
        brrr.open_backend("sqs://aioboto3", endpoint=endpoint, session=session) as queue,
        store,
        brrr.serve(queue, store) as connection,
    ):
        app = brrr.AppWorker(handlers={"double": double}, codec="json", connection=connection)
        working = asyncio.create_task(connection.loop("jobs", app.handle))
        await app.schedule(double, topic="jobs")(21)
        print(await app.result(double, topic="jobs", timeout=60)(21))  # noqa: T201 - the test reads it
        connection.stop()
        await working
    async with session.client("dynamodb", endpoint_url=endpoint) as client:
        print((await client.list_tables())["TableNames"])  # noqa: T201 - likewise


asyncio.run(main(sys.argv[1]))
