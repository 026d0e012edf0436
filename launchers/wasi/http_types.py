"""The larger types of wasi:http, as WIT writes them."""

_SIZE = "option<u32>"
_FIELD = "record {field-name: option<string>, field-size: option<u32>}"

METHOD = "variant {get, head, post, put, delete, connect, options, trace, patch, other: string}"
SCHEME = "variant {HTTP, HTTPS, other: string}"
ERROR_CODE = (
    "variant {DNS-timeout, DNS-error: record {rcode: option<string>, info-code: option<u16>}, "
    "destination-not-found, destination-unavailable, destination-IP-prohibited, destination-IP-unroutable, "
    "connection-refused, connection-terminated, connection-timeout, connection-read-timeout, "
    "connection-write-timeout, connection-limit-reached, TLS-protocol-error, TLS-certificate-error, "
    "TLS-alert-received: record {alert-id: option<u8>, alert-message: option<string>}, HTTP-request-denied, "
    "HTTP-request-length-required, HTTP-request-body-size: option<u64>, HTTP-request-method-invalid, "
    "HTTP-request-URI-invalid, HTTP-request-URI-too-long, "
    f"HTTP-request-header-section-size: {_SIZE}, HTTP-request-header-size: option<{_FIELD}>, "
    f"HTTP-request-trailer-section-size: {_SIZE}, HTTP-request-trailer-size: {_FIELD}, "
    f"HTTP-response-incomplete, HTTP-response-header-section-size: {_SIZE}, "
    f"HTTP-response-header-size: {_FIELD}, HTTP-response-body-size: option<u64>, "
    f"HTTP-response-trailer-section-size: {_SIZE}, HTTP-response-trailer-size: {_FIELD}, "
    "HTTP-response-transfer-coding: option<string>, HTTP-response-content-coding: option<string>, "
    "HTTP-response-timeout, HTTP-upgrade-failed, HTTP-protocol-error, loop-detected, configuration-error, "
    "internal-error: option<string>}"
)
