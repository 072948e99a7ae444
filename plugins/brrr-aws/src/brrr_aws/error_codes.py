"""Error codes of AWS services, grouped by meaning."""

from typing import Final

__all__ = [
    "ACCESS_DENIED",
    "EXPIRED_CREDENTIALS",
    "NOT_FOUND",
    "THROTTLED",
    "UNKNOWN_CREDENTIALS",
    "WRONG_CLOCK",
    "WRONG_SIGNATURE",
]

THROTTLED: Final = frozenset(
    (
        "ProvisionedThroughputExceededException",
        "ProvisionedThroughputExceeded",
        "ThrottlingException",
        "Throttling",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "SlowDown",
        "PriorRequestNotComplete",
        "KmsThrottled",
        "KMS.ThrottlingException",
        # A transaction of another program, or another region, is writing the same item.
        "TransactionConflictException",
        "ReplicatedWriteConflictException",
    )
)
"""Refusals without effect, after which the same request may succeed."""

ACCESS_DENIED: Final = frozenset(
    (
        "AccessDeniedException",
        "AccessDenied",
        "UnauthorizedOperation",
        "NotAuthorized",
        "KmsAccessDenied",
        "KMS.AccessDeniedException",
    )
)
"""A permission is missing."""

EXPIRED_CREDENTIALS: Final = frozenset(("ExpiredTokenException", "ExpiredToken"))
"""The credentials were valid, and have expired."""

UNKNOWN_CREDENTIALS: Final = frozenset(
    (
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "InvalidAccessKeyId",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "AuthFailure",
        "OptInRequired",
    )
)
"""AWS does not know the credentials."""

WRONG_SIGNATURE: Final = frozenset(("InvalidSignatureException", "SignatureDoesNotMatch"))
"""The signature is wrong: the secret key, the region or the clock. The message says which."""

WRONG_CLOCK: Final = frozenset(("RequestTimeTooSkewed", "RequestInTheFuture", "RequestExpired"))
"""The clock of this machine differs too much from AWS' clock."""

NOT_FOUND: Final = frozenset(
    (
        "ResourceNotFoundException",
        "TableNotFoundException",
        "QueueDoesNotExist",
        "AWS.SimpleQueueService.NonExistentQueue",
    )
)
"""The table or queue does not exist."""
