"""moto's server, with patches for its slowness and its lost messages. Run it as a script, with moto's arguments.

Its queues take quadratic time: for every sent or received message they compute all attributes of the queue, among
them counts of all messages, and convert dates for each message. And they lose messages: a message that is sent while
another thread deletes is appended to a list that is then discarded.
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
    """Whether a message is younger than its queue's retention period."""
    seconds: int = backend.get_queue(queue_name).message_retention_period  # type: ignore[attr-defined]
    return message.sent_timestamp / 1000 + seconds > time.time()  # type: ignore[operator]


def _alone(run: Callable[..., Any]) -> Callable[..., Any]:
    """Run the operation under the queue's lock. An operation that waits for messages releases it."""

    @wraps(run)
    def locked(backend: sqs.SQSBackend, queue_name: str, *args: Any, **kwargs: Any) -> Any:
        with backend.get_queue(queue_name)._messages_lock:  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - moto has no public lock
            return run(backend, queue_name, *args, **kwargs)

    return locked


def patch_moto() -> None:
    """Replace the slow functions and those that lose messages."""
    sqs.unix_time = time.time  # type: ignore[assignment, attr-defined]
    sqs.unix_time_millis = lambda: time.time() * 1000  # type: ignore[misc, assignment, attr-defined]
    sqs.SQSBackend.is_message_valid_based_on_retention_period = _is_kept  # type: ignore[method-assign, assignment]
    for name in ALONE:
        setattr(sqs.SQSBackend, name, _alone(getattr(sqs.SQSBackend, name)))


if __name__ == "__main__":
    patch_moto()
    main(sys.argv[1:])
