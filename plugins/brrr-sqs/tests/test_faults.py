"""What goes wrong between a queue and SQS: lost answers, batches done in part, throttling, queues that are deleted."""

import asyncio

import pytest

import brrr_core as brrr
from brrr_core.errors import BackendError, BackendUnavailableError
from brrr_sqs.names import names_of
from tests.support.aws_proxy import proxied
from tests.support.aws_servers import sqs_url

OPERATIONS = [
    *("GetQueueUrl", "CreateQueue", "SendMessageBatch", "ReceiveMessage", "GetQueueAttributes"),
    *("ChangeMessageVisibilityBatch", "DeleteMessageBatch"),
]
LEASES = {operation: "3s" if operation == "ReceiveMessage" else "30s" for operation in OPERATIONS}
"""Those that are waited for are over soon, the others not before what is leased is settled."""
HARMS = ["cut", "lose", "refuse"]
BODIES = [b"%02d" % number for number in range(25)]


def harm(proxy, how, operation, *, times=1):
    """One that is throttled is refused; the others lose their connection, before or after it was done."""
    if how == "refuse":
        proxy.refuse(operation, "RequestThrottled", times=times)
    else:
        getattr(proxy, how)(operation, times=times)


async def take(queue, topic, count):
    """So many messages, as they come."""
    found = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += await queue.receive(topic, limit=count - len(found), wait=5)
    return found


@pytest.mark.parametrize("how", HARMS)
@pytest.mark.parametrize(("operation", "lease"), LEASES.items(), ids=LEASES)
async def test_nothing_is_lost_and_nothing_fails_whichever_answer_is_lost(
    proxy, harmed, topic, drained, operation, lease, how
):
    harm(proxy, how, operation, times=2)

    await harmed.put(topic, BODIES)
    held = await take(harmed, topic, 4)
    await harmed.extend(held)
    acked, released, buried, delayed = held
    await harmed.ack([acked])
    await harmed.release([released])
    await harmed.release([delayed], delay=1)
    await harmed.bury(buried, "enough")
    await harmed.stats(topic)
    letters = await harmed.dead(topic, limit=10)
    assert {(each.body, each.reason) for each in letters} == {(buried.body, "enough")}
    assert await harmed.redrive(topic, limit=10) == len(letters)

    # A message that was sent twice comes twice; one whose receive was not answered comes when its lease is over.
    left = await drained(harmed, topic, wait=4 if operation == "ReceiveMessage" else 1.5)
    assert set(left) == set(BODIES) - {acked.body} or operation == "SendMessageBatch"
    assert set(left) >= set(BODIES) - {acked.body}
    assert proxy.plans[0].times == 0


@pytest.mark.parametrize("code", ["InternalError", "ServiceUnavailable", "RequestThrottled"])
async def test_entries_that_fail_for_now_are_sent_again_alone(proxy, harmed, topic, drained, code):
    proxy.fail_entries("SendMessageBatch", code, done=3, sender=code == "RequestThrottled")

    await harmed.put(topic, BODIES[:10])

    sizes = [len(each.parameters["Entries"]) for each in proxy.requests if each.operation == "SendMessageBatch"]
    assert sizes == [10, 7]
    assert await drained(harmed, topic) == BODIES[:10]


async def test_acks_that_fail_for_now_are_asked_for_again_alone(proxy, harmed, topic):
    await harmed.put(topic, BODIES[:10])
    held = await take(harmed, topic, 10)
    proxy.fail_entries("DeleteMessageBatch", "InternalError", done=4, times=2)

    await harmed.ack(held)

    sizes = [len(each.parameters["Entries"]) for each in proxy.requests if each.operation == "DeleteMessageBatch"]
    assert sizes == [10, 6, 2]
    assert await harmed.stats(topic) == (0, 0, 0, 0)


async def test_releases_that_fail_for_now_are_asked_for_again_alone(proxy, harmed, topic):
    await harmed.put(topic, BODIES[:5])
    held = await take(harmed, topic, 5)
    proxy.fail_entries("ChangeMessageVisibilityBatch", "InternalError", done=2)

    await harmed.release(held)

    assert sorted(each.body for each in await take(harmed, topic, 5)) == BODIES[:5]


async def test_a_message_that_sqs_refuses_is_told_and_the_others_are_put(proxy, harmed, topic, drained):
    proxy.fail_entries("SendMessageBatch", "InvalidMessageContents", done=9, sender=True)

    with pytest.raises(BackendError, match=r"refuses one of SendMessageBatch .*InvalidMessageContents"):
        await harmed.put(topic, BODIES)

    assert await drained(harmed, topic) == [*BODIES[:9], *BODIES[10:]]
    assert proxy.asked("SendMessageBatch") == 3


async def test_an_entry_that_is_never_done_is_told(proxy, proxied_url, topic):
    failed = {"Successful": [], "Failed": [{"Id": "0", "Code": "InternalError", "SenderFault": False}]}
    proxy.answer("SendMessageBatch", failed, times=1000)
    async with brrr.open_backend(proxied_url(retry_for="300ms")) as backend:
        with pytest.raises(BackendUnavailableError, match=r"did not complete SendMessageBatch .*InternalError"):
            await backend.queue.put(topic, [b"x"])


async def test_a_queue_that_is_throttled_for_longer_than_is_borne_is_told(proxy, proxied_url, topic):
    async with brrr.open_backend(proxied_url(retry_for="300ms")) as backend:
        await backend.queue.put(topic, [b"x"])
        proxy.refuse("*", "RequestThrottled", times=1000)
        with pytest.raises(BackendUnavailableError, match="throttles SendMessageBatch"):
            await backend.queue.put(topic, [b"y"])
        with pytest.raises(BackendUnavailableError, match="throttles ReceiveMessage"):
            await backend.queue.receive(topic, limit=1, wait=0)
        with pytest.raises(BackendUnavailableError, match="throttles ReceiveMessage"):
            await backend.queue.receive(topic, limit=1, wait=0.1)


async def test_a_failure_reaches_every_receiver_that_waits_and_the_next_ones_wait_anew(proxy, proxied_url, topic):
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
async def test_a_queue_that_is_deleted_meanwhile_is_made_again_where_that_is_wanted(
    url, sqs, aws_prefix, topic, drained, create
):
    async with brrr.open_backend(url) as maker:
        await maker.queue.put(topic, [b"before"])
    async with brrr.open_backend(f"{url}?create={create}&retry_for=5s") as backend:
        queue = backend.queue
        (held,) = await queue.receive(topic, limit=1, wait=5)
        sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=f"{aws_prefix}__{topic}")["QueueUrl"])

        await queue.ack([held])  # nothing is left of it: that is what an ack wants
        assert await queue.stats(topic) == (0, 0, 0, 0)
        if create == "false":
            with pytest.raises(BackendError, match=r"there is no queue .*__topic-.*brrr setup"):
                await queue.put(topic, [b"after"])
            with pytest.raises(BackendError, match="there is no queue"):
                await queue.receive(topic, limit=1, wait=20)
        else:
            await queue.put(topic, [b"after"])
            assert await drained(queue, topic) == [b"after"]


async def test_a_waiting_receive_survives_that_its_queue_is_deleted(harmed, sqs, aws_prefix, topic):
    await harmed.put(topic, [b"x"])
    await harmed.ack(await harmed.receive(topic, limit=1, wait=5))
    waiting = asyncio.create_task(harmed.receive(topic, limit=1, wait=30))
    await asyncio.sleep(0.01)
    sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=f"{aws_prefix}__{topic}")["QueueUrl"])
    await harmed.put(topic, [b"after"])
    async with asyncio.timeout(10):
        assert [each.body for each in await waiting] == [b"after"]


async def test_a_queue_that_was_deleted_a_moment_ago_is_told_as_that(proxy, proxied_url, topic):
    proxy.refuse("CreateQueue", "QueueDeletedRecently", times=1000)
    async with brrr.open_backend(proxied_url()) as backend:
        with pytest.raises(BackendUnavailableError, match=r"was deleted a moment ago\. Wait a minute"):
            await backend.queue.put(topic, [b"x"])


async def test_a_queue_that_was_made_and_is_not_everywhere_yet_is_asked_again(proxy, harmed, topic, drained):
    proxy.refuse("SendMessageBatch", "QueueDoesNotExist", times=3)

    await harmed.put(topic, [b"x"])

    assert await drained(harmed, topic) == [b"x"]


async def test_a_queue_that_is_never_found_is_told(proxy, proxied_url, topic):
    async with brrr.open_backend(proxied_url(retry_for="300ms")) as backend:
        proxy.refuse("SendMessageBatch", "AWS.SimpleQueueService.NonExistentQueue", times=1000)
        with pytest.raises(BackendUnavailableError, match="is there, and SendMessageBatch does not find it"):
            await backend.queue.put(topic, [b"x"])


async def test_a_queue_that_others_made_in_another_way_is_used_as_it_is(queue, sqs, aws_prefix, topic, drained):
    sqs.create_queue(QueueName=f"{aws_prefix}__{topic}", Attributes={"VisibilityTimeout": "1", "DelaySeconds": "2"})

    await queue.put(topic, [b"x"])

    (found,) = await queue.receive(topic, limit=1, wait=0)  # put without a delay, whatever the queue's own is
    await queue.release([found])
    assert await drained(queue, topic, wait=2) == [b"x"]


async def test_a_queue_that_another_makes_in_the_same_moment_is_used(proxy, harmed, sqs, aws_prefix, topic, drained):
    sqs.create_queue(QueueName=f"{aws_prefix}__{topic}", Attributes={"DelaySeconds": "1"})
    proxy.refuse("GetQueueUrl", "QueueDoesNotExist")  # it was not there when it was looked for

    await harmed.put(topic, [b"x"])

    assert proxy.asked("CreateQueue") == 1
    assert await drained(harmed, topic) == [b"x"]


async def test_many_that_need_a_new_queue_make_it_once(proxy, harmed, topic, drained):
    await asyncio.gather(*(harmed.put(topic, [body]) for body in BODIES))

    assert proxy.asked("GetQueueUrl") == 2  # the other was asked for when the backend was opened
    assert proxy.asked("CreateQueue") == 1
    assert await drained(harmed, topic) == BODIES


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("AccessDenied", "does not permit SendMessageBatch"),
        ("InvalidClientTokenId", "does not know these credentials"),
        ("ExpiredToken", "have expired"),
        ("InvalidAddress", "refuses SendMessageBatch"),
    ],
)
async def test_refusals_are_told_without_what_is_secret(proxy, harmed, topic, code, says):
    proxy.refuse("SendMessageBatch", code, message="The key AKIAVERYSECRET is wrong", times=1000)

    with pytest.raises(BackendError, match=says) as caught:
        await harmed.put(topic, [b"x"])

    assert caught.value.remedy
    text, cause = str(caught.value), caught.value.__cause__
    assert "VERYSECRET" not in f"{text}{cause!r}"


@pytest.mark.parametrize("code", ["KmsAccessDenied", "AccessDeniedException"])
async def test_an_opening_that_is_not_permitted_says_so(proxy, proxied_url, code):
    proxy.refuse("GetQueueUrl", code, times=1000)
    with pytest.raises(BackendError, match="does not permit GetQueueUrl"):
        async with brrr.open_backend(proxied_url()):
            pass


async def test_no_output_holds_the_credentials(proxied_url, monkeypatch, topic, caplog):
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


async def test_nothing_that_answers_is_told_with_its_address(topic):
    async with proxied("http://127.0.0.1:1") as stranger:
        url = sqs_url("jobs", stranger.endpoint, retry_for="200ms")
        stranger.answer("*", {}, times=1000)
        with pytest.raises(BackendError, match=f"what answers at .*{stranger.port} does not say where the queue"):
            async with brrr.open_backend(url) as backend:
                await backend.queue.put(topic, [b"x"])


def test_the_names_are_those_that_the_tests_use(aws_prefix, topic):
    assert names_of(aws_prefix, topic).main == f"{aws_prefix}__{topic}"
