"""Logins for NATS servers in tests: NKeys, and credentials of an operator's users."""

import base64
import hashlib
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any, Final

from brrr_testkit.processes import MissingExtraError

try:
    import nkeys  # type: ignore[import-untyped]
except ImportError as error:
    raise MissingExtraError("nkeys", extra="nats") from error

__all__ = ["Operator", "fresh", "operator", "user_nkey"]

KEYS: Final[Any] = nkeys
"""The library, which has no types."""

UNLIMITED: Final = dict.fromkeys(
    (
        "subs",
        "data",
        "payload",
        "imports",
        "exports",
        "conn",
        "leaf",
        "mem_storage",
        "disk_storage",
        "streams",
        "consumer",
    ),
    -1,
)


def fresh(prefix: int) -> tuple[str, Any]:
    """Return the seed of a new key of the given kind, and the key."""
    seed = KEYS.encode_seed(secrets.token_bytes(32), prefix)
    return seed.decode(), KEYS.from_seed(bytearray(seed))


def user_nkey() -> tuple[str, str]:
    """Return the seed of a new user, and the public key for the configuration of a server."""
    seed, key = fresh(KEYS.PREFIX_BYTE_USER)
    return seed, key.public_key.decode()


@dataclass(frozen=True)
class Operator:
    """An operator with one account.

    Attributes:
        config: The lines for the configuration of a server.
    """

    config: str
    _account: Any

    def creds(self, *, expires: float | None = None, **claims: Any) -> str:
        """Return the credentials file of a new user of the account. `expires` is in Unix seconds."""
        seed, user = fresh(KEYS.PREFIX_BYTE_USER)
        limits = {"subs": -1, "data": -1, "payload": -1}
        token = _signed(self._account, user, "user", {**limits, **claims}, expires=expires)
        return (
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )


def operator() -> Operator:
    """Return a new operator, with an account that has JetStream without limits."""
    _, root = fresh(KEYS.PREFIX_BYTE_OPERATOR)
    _, account = fresh(KEYS.PREFIX_BYTE_ACCOUNT)
    name = account.public_key.decode()
    token = _signed(root, account, "account", {"limits": {**UNLIMITED, "wildcards": True}})
    _, system = fresh(KEYS.PREFIX_BYTE_ACCOUNT)
    system_name = system.public_key.decode()
    system_token = _signed(root, system, "account", {})
    lines = [
        f"system_account: {system_name}",
        f"operator: {_signed(root, root, 'operator', {})}",
        "resolver: MEMORY",
        f"resolver_preload: {{ {name}: {token}, {system_name}: {system_token} }}",
    ]
    return Operator("\n".join(lines), account)


def _signed(issuer: Any, subject: Any, kind: str, claims: dict[str, Any], *, expires: float | None = None) -> str:
    body: dict[str, Any] = {
        "iat": int(time.time()) - 5,
        "iss": issuer.public_key.decode(),
        "sub": subject.public_key.decode(),
        "name": kind,
        "nats": {**claims, "type": kind, "version": 2},
    }
    if expires is not None:
        body["exp"] = int(expires)
    digest = hashlib.new("sha512_256", json.dumps(body).encode()).digest()
    body["jti"] = base64.b32encode(digest).decode().rstrip("=")
    head = _base64(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode())
    text = f"{head}.{_base64(json.dumps(body).encode())}"
    return f"{text}.{_base64(issuer.sign(text.encode()))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
