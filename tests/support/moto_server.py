"""moto's server, with what stands in the way of tests mended. Run as a script, with its arguments.

Its queues get slow with the square of what they hold: for every message that they send or receive they make all
attributes of the queue, counts of all messages among them, and ask the clock for each by way of two dates. And they
lose messages: what is sent while another thread deletes is appended to a list that is thrown away.
"""

import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import moto.sqs.models as sqs
from moto.server import main

ALONE = ("send_message", "receive_message", "delete_message", "change_message_visibility", "purge_queue")


def _is_kept(backend: sqs.SQSBackend, queue_name: str, message: sqs.Message) -> bool:
    """Whether a message is younger than what its queue keeps."""
    seconds: int = backend.get_queue(queue_name).message_retention_period  # type: ignore[attr-defined]
    return message.sent_timestamp / 1000 + seconds > time.time()  # type: ignore[operator]


def _alone(run: Callable[..., Any]) -> Callable[..., Any]:
    """The operation, one at a time for each queue. One that waits for messages gives way."""

    @wraps(run)
    def locked(backend: sqs.SQSBackend, queue_name: str, *args: Any, **kwargs: Any) -> Any:
        with backend.get_queue(queue_name)._messages_lock:
            return run(backend, queue_name, *args, **kwargs)

    return locked


def mend() -> None:
    """Replace what is slow, and what loses messages."""
    sqs.unix_time = time.time  # type: ignore[assignment]
    sqs.unix_time_millis = lambda: time.time() * 1000  # type: ignore[misc,assignment]
    sqs.SQSBackend.is_message_valid_based_on_retention_period = _is_kept  # type: ignore[method-assign]
    for name in ALONE:
        setattr(sqs.SQSBackend, name, _alone(getattr(sqs.SQSBackend, name)))


if __name__ == "__main__":
    mend()
    main(sys.argv[1:])
