"""The Storage API on HTTP, both ways: the front of the ``codec_*`` modules.

A server calls `decode_request` and `encode_response`, a client `encode_request` and
`decode_response`; errors are in `fletching.protocol.http.error_codec`, authentication in
`fletching.protocol.http.signing`. Table administration has its own four functions.
"""

from __future__ import annotations

from fletching.protocol.codec.codec_admin import (
    ADMIN_PREFIX,
    decode_admin_request,
    decode_admin_response,
    encode_admin_request,
    encode_admin_response,
    is_admin_path,
    is_admin_request,
)
from fletching.protocol.codec.codec_parts import MAX_JSON_BYTES, HttpRequest
from fletching.protocol.codec.codec_requests import (
    STREAMING_BODIES,
    action_of,
    check_request,
    decode_request,
    encode_request,
    parse_action,
)
from fletching.protocol.codec.codec_responses import decode_response, encode_response
from fletching.protocol.codec.request_tables import check_data_format
from fletching.protocol.http.targets import parse_storage_path, storage_path

__all__ = [
    "ADMIN_PREFIX",
    "MAX_JSON_BYTES",
    "STREAMING_BODIES",
    "HttpRequest",
    "action_of",
    "check_data_format",
    "check_request",
    "decode_admin_request",
    "decode_admin_response",
    "decode_request",
    "decode_response",
    "encode_admin_request",
    "encode_admin_response",
    "encode_request",
    "encode_response",
    "is_admin_path",
    "is_admin_request",
    "parse_action",
    "parse_storage_path",
    "storage_path",
]
