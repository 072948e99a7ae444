"""Opening and `brrr setup`: options, and when queues are created."""

import pytest

import brrr_core as brrr
from brrr_core.errors import BackendError, OptionError
from brrr_sqs.queues import names_of


@pytest.mark.parametrize("lease", ["13h", "0s"])
def test_unsupported_lease_is_refused(lease):
    with pytest.raises(OptionError, match="lease is"):
        brrr.open_backend(f"sqs://jobs?lease={lease}")


@pytest.mark.parametrize("option", ["timeout=0s", "retry_for=4000d", "connect_timeout=0s"])
def test_duration_out_of_range_is_refused(option):
    with pytest.raises(OptionError, match=r"is .* s"):
        brrr.open_backend(f"sqs://jobs?{option}")


async def test_setup_creates_the_queues_of_its_topics(url, sqs, aws_prefix, topic):
    first = await brrr.open_backend(f"{url}?topics={topic}, {topic}-b&create=false").setup()
    again = await brrr.open_backend(f"{url}?topics={topic},{topic}-b&create=false").setup()

    assert [line.split(" ")[0] for line in first] == ["created"] * 4
    assert all(line.endswith("exists") for line in again)
    for name in (*names_of(aws_prefix, topic), *names_of(aws_prefix, f"{topic}-b")):
        url_of = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        kept = sqs.get_queue_attributes(QueueUrl=url_of, AttributeNames=["MessageRetentionPeriod"])["Attributes"]
        assert kept == {"MessageRetentionPeriod": str(14 * 24 * 3600)}


async def test_queue_created_by_setup_works_without_create(url, topic):
    await brrr.open_backend(f"{url}?topics={topic}&create=false").setup()
    async with brrr.open_backend(f"{url}?create=false") as backend:
        await backend.queue.put(topic, [b"x"])
        (held,) = await backend.queue.receive(topic, limit=1, wait=5)
        await backend.queue.bury(held, "enough")
        assert await backend.queue.stats(topic) == (0, 0, 0, 1)


async def test_topic_without_queues_is_an_error_without_create(url, topic):
    async with brrr.open_backend(f"{url}?create=false") as backend:
        assert await backend.queue.stats(topic) == (0, 0, 0, 0)
        with pytest.raises(BackendError, match=r"does not exist .* Create it with `brrr setup` and the option topics"):
            await backend.queue.put(topic, [b"x"])


async def test_setup_without_topics_explains_when_queues_are_created(url):
    (said,) = await brrr.open_backend(url).setup()
    assert said.endswith("are created on first use")
    (said,) = await brrr.open_backend(f"{url}?create=false").setup()
    assert "name topics" in said


async def test_opening_sends_one_request_and_creates_nothing(proxy, proxied_url):
    async with brrr.open_backend(proxied_url()):
        pass
    assert [each.operation for each in proxy.requests] == ["GetQueueUrl"]
