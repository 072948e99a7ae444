"""What AWS' services call their refusals, by what they mean."""

from typing import Final

__all__ = ["CLOCKS", "DENIED", "EXPIRED", "MISSING", "SIGNED_WRONG", "STRANGERS", "THROTTLED"]

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
        # Another writes the same item: in a transaction of another programme's, or in another region.
        "TransactionConflictException",
        "ReplicatedWriteConflictException",
    )
)
"""Answers after which nothing was done, and after which the same request may succeed."""

DENIED: Final = frozenset(
    (
        "AccessDeniedException",
        "AccessDenied",
        "UnauthorizedOperation",
        "NotAuthorized",
        "KmsAccessDenied",
        "KMS.AccessDeniedException",
    )
)
"""Permissions are missing."""

EXPIRED: Final = frozenset(("ExpiredTokenException", "ExpiredToken"))
"""The credentials were good once."""

STRANGERS: Final = frozenset(
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
"""Nobody knows the credentials."""

SIGNED_WRONG: Final = frozenset(("InvalidSignatureException", "SignatureDoesNotMatch"))
"""With another secret key, for another region, or long ago by the signer's clock: what it says tells."""

CLOCKS: Final = frozenset(("RequestTimeTooSkewed", "RequestInTheFuture", "RequestExpired"))
"""Signed long ago, by the signer's clock."""

MISSING: Final = frozenset(
    (
        "ResourceNotFoundException",
        "TableNotFoundException",
        "QueueDoesNotExist",
        "AWS.SimpleQueueService.NonExistentQueue",
    )
)
"""What it is about is not there."""
