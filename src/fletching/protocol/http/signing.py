"""Signatures of requests: what is signed, how, and how it is checked, as PyODPS's ``odps.accounts`` signs.

============  ====================================================================================
legacy        ``Authorization: ODPS {id}:{base64(HMAC-SHA1(secret, S))}``
v4            ``Authorization: ODPS {id}/{date}/{region}/odps/aliyun_v4_request:{base64(HMAC-SHA1(K, S))}``
STS           either, with a temporary key and its token in ``authorization-sts-token``
bearer        ``x-odps-bearer-token: {token}``, no signature
application   ``application-authentication: …,signature:{base64(HMAC-SHA1(secret, Authorization))}``
============  ====================================================================================

S is the *string to sign*, K a key derived from secret, day and region. Neither covers the body, so
signing costs the same whatever is uploaded. Time always comes in as seconds since the epoch.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import enum
import hmac
import re
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl, unquote, urlparse

from fletching.errors import InvalidParameterError, RequestTimeTooSkewedError, UnauthorizedError
from fletching.protocol.http import headers as header_names

__all__ = [
    "SIGNATURE_PREFIX",
    "ApplicationClaim",
    "Claim",
    "Scheme",
    "check_date",
    "check_scope_date",
    "parse_application",
    "parse_authorization",
    "sign",
    "string_to_sign",
    "verify",
    "verify_application",
]

SIGNATURE_PREFIX = "aliyun_v4"
"""Begins the v4 key derivation and ends the credential's scope."""

ENDPOINT_PATHS = ("", "/api")
"""Endpoint paths that a client may have removed before signing; a server tries each."""

_SIGNED_HEADERS = frozenset({"content-md5", "content-type", "date"})
_SIGNED_PREFIX = "x-odps-"


class Scheme(enum.StrEnum):
    """How the Authorization header was made."""

    LEGACY = "legacy"
    V4 = "v4"


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """What an Authorization header says, before anything is verified."""

    scheme: Scheme
    access_id: str
    signature: str = dataclasses.field(repr=False)
    date: str = ""
    """v4: the day of the derived key, ``yyyymmdd`` in UTC."""
    region: str = ""
    prefix: str = SIGNATURE_PREFIX


@dataclasses.dataclass(frozen=True, slots=True)
class ApplicationClaim:
    """What an application-authentication header says."""

    access_id: str
    signature: str = dataclasses.field(repr=False)


# --- what is signed --------------------------------------------------------------------------


def string_to_sign(
    method: str, target: str, headers: Mapping[str, str] | Iterable[tuple[str, str]]
) -> bytes:
    """The bytes that a signature covers.

    Args:
        method: the HTTP method.
        target: path and query as sent, still percent-encoded, without the endpoint's own path.
        headers: the request's headers, names in any case.

    Raises:
        InvalidParameterError: the target is not a URL.

    The target is decoded as a whole before it is taken apart, so an encoded ``&`` or ``=`` in a
    value splits it, and ``+`` counts as a blank only inside the query. That is how clients do it.
    """
    try:
        url = urlparse(unquote(target), allow_fragments=False)
    except ValueError as exc:
        raise InvalidParameterError("the request's target is not a URL") from exc
    resource = url.path
    parameters: dict[str, str] = {}
    if url.query:
        parameters = dict(parse_qsl(url.query, keep_blank_values=True))
        pairs = (f"{name}={value}" if value else name for name, value in sorted(parameters.items()))
        resource += "?" + "&".join(pairs)
    signed = dict.fromkeys(_SIGNED_HEADERS, "")
    for name, value in header_names.lower_case(headers).items():
        if name in _SIGNED_HEADERS or name.startswith(_SIGNED_PREFIX):
            signed[name] = value.strip()
    # The bearer token rides in a header of the signed kind but is added after signing.
    signed.pop(header_names.BEARER_TOKEN, None)
    for name, value in parameters.items():
        if name.startswith(_SIGNED_PREFIX):
            signed[name] = value
    lines = [method.upper()]
    lines += [
        f"{name}:{value}" if name.startswith(_SIGNED_PREFIX) else value
        for name, value in sorted(signed.items())
    ]
    lines.append(resource)
    # Header bytes that are not UTF-8 arrive as lone surrogates; they are signed as those bytes.
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def _hmac(key: bytes, message: bytes, digest: str) -> bytes:
    return hmac.new(key, message, digest).digest()


def _signature(key: bytes, text: bytes) -> str:
    # HMAC-SHA1 is the protocol's; its security does not rest on SHA-1's collision resistance.
    return base64.b64encode(_hmac(key, text, "sha1")).decode("ascii")


def _derived_key(secret: str, date: str, region: str, prefix: str) -> bytes:
    key = _hmac((prefix + secret).encode(), date.encode(), "sha256")
    key = _hmac(key, region.encode(), "sha256")
    key = _hmac(key, b"odps", "sha256")
    return _hmac(key, f"{prefix}_request".encode(), "sha256")


# --- the client's side -----------------------------------------------------------------------


def sign(
    method: str,
    target: str,
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    *,
    access_id: str,
    secret: str,
    region: str | None = None,
    now: float = 0.0,
) -> str:
    """The ``Authorization`` value for a request whose headers (``Date`` included) are complete.

    Args:
        method: the HTTP method.
        target: path and query as sent, without the endpoint's own path (`string_to_sign`).
        headers: all headers that will be sent.
        access_id: names the key.
        secret: the key; never part of the result.
        region: signs the v4 way for this region; None the legacy way.
        now: seconds since the epoch; v4 derives its key from the UTC day.
    """
    text = string_to_sign(method, target, headers)
    if region is None:
        return f"ODPS {access_id}:{_signature(secret.encode(), text)}"
    date = dt.datetime.fromtimestamp(now, dt.UTC).strftime("%Y%m%d")
    key = _derived_key(secret, date, region, SIGNATURE_PREFIX)
    scope = f"{access_id}/{date}/{region}/odps/{SIGNATURE_PREFIX}_request"
    return f"ODPS {scope}:{_signature(key, text)}"


# --- the server's side -----------------------------------------------------------------------

_V4_SCOPE = re.compile(r"(?P<prefix>[a-z0-9]{1,32}_v4)_request")


def parse_authorization(value: str) -> Claim:
    """Reads an Authorization header.

    Raises:
        UnauthorizedError: it is none of the known forms; the value is not repeated.
    """
    kind, _, rest = value.strip().partition(" ")
    credential, colon, signature = rest.rpartition(":")
    parts = credential.split("/")
    if kind != "ODPS" or not colon or not parts[0] or not signature:
        raise UnauthorizedError("the Authorization header is not of the form 'ODPS id:signature'")
    if len(parts) == 1:
        return Claim(Scheme.LEGACY, parts[0], signature)
    if len(parts) == 5 and parts[3] == "odps" and re.fullmatch("[0-9]{8}", parts[1]):
        scope = _V4_SCOPE.fullmatch(parts[4])
        if scope is not None:
            return Claim(Scheme.V4, parts[0], signature, parts[1], parts[2], scope["prefix"])
    raise UnauthorizedError("the credential of the Authorization header has an unknown form")


def verify(
    claim: Claim,
    secret: str,
    method: str,
    target: str,
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
) -> bool:
    """Whether the claim's signature was made with ``secret`` over this request.

    The client removed its endpoint's path before signing and the server cannot know which that was,
    so each of `ENDPOINT_PATHS` is tried. Comparison takes constant time.

    Args:
        claim: from `parse_authorization`.
        secret: of the claim's access id.
        method: the HTTP method.
        target: path and query as received, percent-encoded.
        headers: as received.
    """
    if claim.scheme is Scheme.V4:
        key = _derived_key(secret, claim.date, claim.region, claim.prefix)
    else:
        key = secret.encode()
    received = claim.signature.encode("utf-8", "surrogateescape")
    fields = header_names.lower_case(headers)
    matched = False
    for prefix in ENDPOINT_PATHS:
        if target.startswith(prefix):
            text = string_to_sign(method, target[len(prefix) :], fields)
            # No early exit: how many candidates were tried says which one was right.
            matched |= hmac.compare_digest(_signature(key, text).encode(), received)
    return matched


def parse_application(value: str) -> ApplicationClaim:
    """Reads an application-authentication header.

    Raises:
        UnauthorizedError: it has another form.
    """
    fields: dict[str, str] = {}
    for item in value.split(",")[:16]:
        name, _, content = item.strip().partition(":")
        fields[name] = content
    if (
        fields.get("signature_method", "").lower() != "hmac-sha1"
        or not fields.get("access_id")
        or not fields.get("signature")
    ):
        raise UnauthorizedError("the application-authentication header has an unknown form")
    return ApplicationClaim(fields["access_id"], fields["signature"])


def verify_application(claim: ApplicationClaim, secret: str, authorization: str) -> bool:
    """Whether an application's signature covers this Authorization value. Constant time."""
    expected = _signature(secret.encode(), authorization.encode("utf-8", "surrogateescape"))
    return hmac.compare_digest(
        expected.encode(), claim.signature.encode("utf-8", "surrogateescape")
    )


def check_date(date: str, now: float, allowed_skew_seconds: float) -> None:
    """Refuses a request whose ``Date`` is too far from the server's clock: also every old replay.

    Args:
        date: the Date header, RFC 1123.
        now: the server's time in seconds since the epoch.
        allowed_skew_seconds: how far apart the two may be.

    Raises:
        UnauthorizedError: there is no date, or it cannot be read.
        RequestTimeTooSkewedError: too far apart; the message has the layout clients parse.
    """
    try:
        moment = parsedate_to_datetime(date)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=dt.UTC)
        # At an end of the calendar, the zone of a moment may lead out of it.
        moment = moment.astimezone(dt.UTC)
    except (TypeError, ValueError, IndexError, OverflowError):
        raise UnauthorizedError("the Date header is missing or cannot be read") from None
    if abs(moment.timestamp() - now) > allowed_skew_seconds:
        current = dt.datetime.fromtimestamp(now, dt.UTC)
        raise RequestTimeTooSkewedError(
            f"max_interval_date:{int(allowed_skew_seconds * 1000)},"
            f"expire_date:{_stamp(moment)},now_date:{_stamp(current)}"
        )


def _stamp(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def check_scope_date(claim: Claim, now: float) -> None:
    """Refuses a v4 key derived for a day that is neither today nor a neighbour of it, in UTC.

    Raises:
        RequestTimeTooSkewedError: the day is another one.
    """
    if claim.scheme is not Scheme.V4:
        return
    today = dt.datetime.fromtimestamp(now, dt.UTC)
    near = {(today + dt.timedelta(days=offset)).strftime("%Y%m%d") for offset in (-1, 0, 1)}
    if claim.date not in near:
        begin = f"{claim.date[:4]}-{claim.date[4:6]}-{claim.date[6:]}T00:00:00.000Z"
        raise RequestTimeTooSkewedError(
            f"max_interval_date:86400000,expire_date:{begin},now_date:{_stamp(today)}"
        )
