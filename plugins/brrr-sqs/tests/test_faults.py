"""Faults between the queue and SQS: lost responses, incomplete batches, throttling, deleted queues."""

import asyncio

import pytest

import brrr_core as brrr
from brrr_core.errors import BackendError, BackendUnavailableError
from brrr_sqs.queues import names_of
from brrr_testkit.faults.aws import proxied
from brrr_testkit.servers.aws import sqs_url

OPERATIONS = [
    *("GetQueueUrl", "CreateQueue", "SendMessageBatch", "ReceiveMessage", "GetQueueAttributes"),
    *("ChangeMessageVisibilityBatch", "DeleteMessageBatch"),
]
LEASES = {operation: "3s" if operation == "ReceiveMessage" else "30s" for operation in OPERATIONS}
"""Leases. The tests that wait for one need a short lease; the others settle within a long one."""
FAULTS = ["cut", "lose", "refuse"]
BODIES = [b"%02d" % number for number in range(25)]


def inject(proxy, fault, operation, *, times=1):
    """Refuse the operation, or cut its connection before or after it takes effect."""
    if fault == "refuse":
        proxy.refuse(operation, "RequestThrottled", times=times)
    else:
        getattr(proxy, fault)(operation, times=times)


async def take(queue, topic, count):
    """Receive `count` messages."""
    found = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += await queue.receive(topic, limit=count - len(found), wait=5)
    return found


@pytest.mark.parametrize(
    ("operation", "lease", "fault"),
    [
        pytest.param(
            *(operation, lease, fault),
            id=f"{operation}-{fault}",
            marks=() if fault == "lose" or operation == "SendMessageBatch" else pytest.mark.exhaustive,
        )
        for operation, lease in LEASES.items()
        for fault in FAULTS
    ],
)
async def test_lost_response_of_any_operation_loses_no_message(proxy, faulty, topic, drained, operation, lease, fault):
    inject(proxy, fault, operation, times=2)

    await faulty.put(topic, BODIES)
    held = await take(faulty, topic, 4)
    await faulty.extend(held)
    acked, released, buried, delayed = held
    await faulty.ack([acked])
    await faulty.release([released])
    await faulty.release([delayed], delay=1)
    await faulty.bury(buried, "enough")
    await faulty.stats(topic)
    letters = await faulty.dead(topic, limit=10)
    assert {(each.body, each.reason) for each in letters} == {(buried.body, "enough")}
    assert await faulty.redrive(topic, limit=10) == len(letters)

    # A message that was sent twice comes twice. One in a lost response comes after its lease.
    left = await drained(faulty, topic, wait=4 if operation == "ReceiveMessage" else 1.5)
    assert set(left) == set(BODIES) - {acked.body} or operation == "SendMessageBatch"
    assert set(left) >= set(BODIES) - {acked.body}
    assert proxy.plans[0].times == 0


@pytest.mark.parametrize("code", ["InternalError", "ServiceUnavailable", "RequestThrottled"])
async def test_only_temporarily_failed_messages_are_sent_again(proxy, faulty, topic, drained, code):
    proxy.fail_entries("SendMessageBatch", code, done=3, sender=code == "RequestThrottled")

    await faulty.put(topic, BODIES[:10])

    sizes = [len(each.parameters["Entries"]) for each in proxy.requests if each.operation == "SendMessageBatch"]
    assert sizes == [10, 7]
    assert await drained(faulty, topic) == BODIES[:10]


async def test_only_temporarily_failed_acks_are_repeated(proxy, faulty, topic):
    await faulty.put(topic, BODIES[:10])
    held = await take(faulty, topic, 10)
    proxy.fail_entries("DeleteMessageBatch", "InternalError", done=4, times=2)

    await faulty.ack(held)

    sizes = [len(each.parameters["Entries"]) for each in proxy.requests if each.operation == "DeleteMessageBatch"]
    assert sizes == [10, 6, 2]
    assert await faulty.stats(topic) == (0, 0, 0, 0)


async def test_only_temporarily_failed_releases_are_repeated(proxy, faulty, topic):
    await faulty.put(topic, BODIES[:5])
    held = await take(faulty, topic, 5)
    proxy.fail_entries("ChangeMessageVisibilityBatch", "InternalError", done=2)

    await faulty.release(held)

    assert sorted(each.body for each in await take(faulty, topic, 5)) == BODIES[:5]


async def test_refused_message_raises_an_error_and_the_others_are_put(proxy, faulty, topic, drained):
    proxy.fail_entries("SendMessageBatch", "InvalidMessageContents", done=9, sender=True)

    with pytest.raises(BackendError, match=r"refuses one of SendMessageBatch .*InvalidMessageContents"):
        await faulty.put(topic, BODIES)

    assert await drained(faulty, topic) == [*BODIES[:9], *BODIES[10:]]
    assert proxy.asked("SendMessageBatch") == 3


async def test_entry_that_keeps_failing_raises_an_error(proxy, proxied_url, topic):
    failed = {"Successful": [], "Failed": [{"Id": "0", "Code": "InternalError", "SenderFault": False}]}
    proxy.answer("SendMessageBatch", failed, times=1000)
    async with brrr.open_backend(proxied_url(retry_for="300ms")) as backend:
        with pytest.raises(BackendUnavailableError, match=r"did not complete SendMessageBatch .*InternalError"):
            await backend.queue.put(topic, [b"x"])


async def test_throttling_for_longer_than_retry_for_raises_an_error(proxy, proxied_url, topic):
    async with brrr.open_backend(proxied_url(retry_for="300ms")) as backend:
        await backend.queue.put(topic, [b"x"])
        proxy.refuse("*", "RequestThrottled", times=1000)
        with pytest.raises(BackendUnavailableError, match="throttles SendMessageBatch"):
            await backend.queue.put(topic, [b"y"])
        with pytest.raises(BackendUnavailableError, match="throttles ReceiveMessage"):
            await backend.queue.receive(topic, limit=1, wait=0)
        with pytest.raises(BackendUnavailableError, match="throttles ReceiveMessage"):
            await backend.queue.receive(topic, limit=1, wait=0.1)


async def test_failure_reaches_all_waiting_receivers_and_later_ones_succeed(proxy, proxied_url, topic):
    async with brrr.open_backend(proxied_url(retry_for="300ms", lease="3s")) as backend:
        queue = backend.queue
        await queue.put(topic, [b"x"])
        await queue.ack(await queue.receive(topic, limit=1, wait=5))
        proxy.refuse("ReceiveMessage", "AccessDenied", times=1)
        waiting = [asyncio.create_task(queue.receive(topic, limit=1, wait=20)) for _ in range(3)]
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in ended] == [BackendError] * 3

        waiting = [asyncio.create_task(queue.receive(topic, limit=1, wait=20)) for _ in range(3)]
        await queue.put(topic, BODIES[:3])
        found = await asyncio.gather(*waiting)
        assert sorted(each.body for some in found for each in some) == BODIES[:3]


@pytest.mark.parametrize("create", ["true", "false"])
async def test_deleted_queue_is_created_again_only_with_create(url, sqs, aws_prefix, topic, drained, create):
    async with brrr.open_backend(url) as maker:
        await maker.queue.put(topic, [b"before"])
    async with brrr.open_backend(f"{url}?create={create}&retry_for=5s") as backend:
        queue = backend.queue
        (held,) = await queue.receive(topic, limit=1, wait=5)
        sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=f"{aws_prefix}__{topic}")["QueueUrl"])

        await queue.ack([held])  # succeeds, as the message is gone
        assert await queue.stats(topic) == (0, 0, 0, 0)
        if create == "false":
            with pytest.raises(BackendError, match=r"the queue .*__topic-.* does not exist .*brrr setup"):
                await queue.put(topic, [b"after"])
            with pytest.raises(BackendError, match=r"the queue .* does not exist"):
                await queue.receive(topic, limit=1, wait=20)
        else:
            await queue.put(topic, [b"after"])
            assert await drained(queue, topic) == [b"after"]


@pytest.mark.parametrize("lease", ["3s"])  # a poll lasts a third of it
async def test_waiting_receive_survives_the_deletion_of_its_queue(faulty, sqs, aws_prefix, topic):
    await faulty.put(topic, [b"x"])
    await faulty.ack(await faulty.receive(topic, limit=1, wait=5))
    waiting = asyncio.create_task(faulty.receive(topic, limit=1, wait=30))
    await asyncio.sleep(0.01)
    sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=f"{aws_prefix}__{topic}")["QueueUrl"])
    await faulty.put(topic, [b"after"])
    async with asyncio.timeout(10):
        assert [each.body for each in await waiting] == [b"after"]


async def test_recently_deleted_queue_raises_its_own_error(proxy, proxied_url, topic):
    proxy.refuse("CreateQueue", "QueueDeletedRecently", times=1000)
    async with brrr.open_backend(proxied_url()) as backend:
        with pytest.raises(BackendUnavailableError, match=r"was just deleted\. Wait a minute"):
            await backend.queue.put(topic, [b"x"])


async def test_new_queue_that_some_servers_do_not_know_yet_is_retried(proxy, faulty, topic, drained):
    proxy.refuse("SendMessageBatch", "QueueDoesNotExist", times=3)

    await faulty.put(topic, [b"x"])

    assert await drained(faulty, topic) == [b"x"]


async def test_existing_queue_that_is_never_found_raises_an_error(proxy, proxied_url, topic):
    async with brrr.open_backend(proxied_url(retry_for="300ms")) as backend:
        proxy.refuse("SendMessageBatch", "AWS.SimpleQueueService.NonExistentQueue", times=1000)
        with pytest.raises(BackendUnavailableError, match="exists, but SendMessageBatch does not find it"):
            await backend.queue.put(topic, [b"x"])


async def test_queue_with_other_attributes_is_used(queue, sqs, aws_prefix, topic, drained):
    sqs.create_queue(QueueName=f"{aws_prefix}__{topic}", Attributes={"VisibilityTimeout": "1", "DelaySeconds": "2"})

    await queue.put(topic, [b"x"])

    (found,) = await queue.receive(topic, limit=1, wait=0)  # the put overrides the queue's own delay
    await queue.release([found])
    assert await drained(queue, topic, wait=2) == [b"x"]


async def test_queue_that_another_program_creates_meanwhile_is_used(proxy, faulty, sqs, aws_prefix, topic, drained):
    sqs.create_queue(QueueName=f"{aws_prefix}__{topic}", Attributes={"DelaySeconds": "1"})
    proxy.refuse("GetQueueUrl", "QueueDoesNotExist")  # as if it did not exist yet

    await faulty.put(topic, [b"x"])

    assert proxy.asked("CreateQueue") == 1
    assert await drained(faulty, topic) == [b"x"]


async def test_concurrent_puts_create_a_new_queue_once(proxy, faulty, topic, drained):
    await asyncio.gather(*(faulty.put(topic, [body]) for body in BODIES))

    assert proxy.asked("GetQueueUrl") == 2  # one of them when the backend was opened
    assert proxy.asked("CreateQueue") == 1
    assert await drained(faulty, topic) == BODIES


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("AccessDenied", "does not permit SendMessageBatch"),
        ("InvalidClientTokenId", "does not know these credentials"),
        ("ExpiredToken", "have expired"),
        ("InvalidAddress", "refuses SendMessageBatch"),
    ],
)
async def test_refusals_raise_errors_without_secrets(proxy, faulty, topic, code, says):
    proxy.refuse("SendMessageBatch", code, message="The key AKIAVERYSECRET is wrong", times=1000)

    with pytest.raises(BackendError, match=says) as caught:
        await faulty.put(topic, [b"x"])

    assert caught.value.remedy
    text, cause = str(caught.value), caught.value.__cause__
    assert "VERYSECRET" not in f"{text}{cause!r}"


@pytest.mark.parametrize("code", ["KmsAccessDenied", "AccessDeniedException"])
async def test_opening_without_permission_raises_an_error(proxy, proxied_url, code):
    proxy.refuse("GetQueueUrl", code, times=1000)
    with pytest.raises(BackendError, match="does not permit GetQueueUrl"):
        async with brrr.open_backend(proxied_url()):
            pass


async def test_credentials_appear_in_no_log_or_repr(proxied_url, monkeypatch, topic, caplog):
    caplog.set_level("DEBUG")
    for name, value in {"AWS_SECRET_ACCESS_KEY": "verysecretkey", "AWS_SESSION_TOKEN": "verysecrettoken"}.items():
        monkeypatch.setenv(name, value)
    backend = brrr.open_backend(proxied_url())
    async with backend:
        await backend.queue.put(topic, [b"x"])
        (held,) = await backend.queue.receive(topic, limit=1, wait=5)
        shown = f"{backend!r}{backend.queue!r}{held!r}{vars(backend)}{vars(backend.queue)}"
    ours = [record for record in caplog.records if record.name.startswith("brrr")]
    assert "verysecret" not in shown + "".join(record.getMessage() for record in ours)


async def test_response_without_a_queue_url_raises_an_error_with_the_address(topic):
    async with proxied("http://127.0.0.1:1") as server:
        url = sqs_url("jobs", server.endpoint, retry_for="200ms")
        server.answer("*", {}, times=1000)
        with pytest.raises(BackendError, match=f"response of .*{server.port} does not contain the URL of the queue"):
            async with brrr.open_backend(url) as backend:
                await backend.queue.put(topic, [b"x"])


def test_queue_name_is_the_one_that_these_tests_use(aws_prefix, topic):
    assert names_of(aws_prefix, topic).main == f"{aws_prefix}__{topic}"
