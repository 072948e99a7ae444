"""moto's server, with patches for its slowness and its lost messages. Run it as a script, with moto's arguments.

Its queues take quadratic time: for every sent or received message they compute all attributes of the queue, including
counts of all messages, and convert dates for each message. They also lose messages: if a message is sent while another
thread deletes, it is appended to a list that is then discarded.
"""

import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import moto.sqs.models as sqs
from moto.server import main

SERIALIZED = ("send_message", "receive_message", "delete_message", "change_message_visibility", "purge_queue")


def _is_retained(backend: sqs.SQSBackend, queue_name: str, message: sqs.Message) -> bool:
    """Whether a message is younger than its queue's retention period."""
    seconds: int = backend.get_queue(queue_name).message_retention_period  # type: ignore[attr-defined]
    return message.sent_timestamp / 1000 + seconds > time.time()  # type: ignore[operator]


def _serialized(run: Callable[..., Any]) -> Callable[..., Any]:
    """Run an operation under the queue's lock. An operation that waits for messages releases the lock."""

    @wraps(run)
    def locked(backend: sqs.SQSBackend, queue_name: str, *args: Any, **kwargs: Any) -> Any:
        with backend.get_queue(queue_name)._messages_lock:  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - moto has no public lock
            return run(backend, queue_name, *args, **kwargs)

    return locked


def patch_moto() -> None:
    """Replace the functions that are slow or lose messages."""
    sqs.unix_time = time.time  # type: ignore[assignment, attr-defined]
    sqs.unix_time_millis = lambda: time.time() * 1000  # type: ignore[misc, assignment, attr-defined]
    sqs.SQSBackend.is_message_valid_based_on_retention_period = _is_retained  # type: ignore[method-assign, assignment]
    for name in SERIALIZED:
        setattr(sqs.SQSBackend, name, _serialized(getattr(sqs.SQSBackend, name)))


if __name__ == "__main__":
    patch_moto()
    main(sys.argv[1:])
