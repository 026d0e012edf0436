"""The words of wasi:filesystem for what cannot be done."""

from ..wasm_entry import WasiError, error_number

# By the numbers of preview 1.
_WORDS = {
    2: "access", 6: "would-block", 7: "already", 8: "bad-descriptor", 10: "busy", 16: "deadlock",
    19: "quota", 20: "exist", 22: "file-too-large", 25: "illegal-byte-sequence", 26: "in-progress",
    27: "interrupted", 28: "invalid", 29: "io", 31: "is-directory", 32: "loop", 33: "insufficient-memory",
    34: "too-many-links", 35: "message-size", 37: "name-too-long", 41: "insufficient-memory",
    43: "no-device", 44: "no-entry", 46: "no-lock", 48: "insufficient-memory", 51: "insufficient-space",
    52: "unsupported", 54: "not-directory", 55: "not-empty", 56: "not-recoverable", 58: "unsupported",
    59: "no-tty", 60: "no-such-device", 61: "overflow", 63: "not-permitted", 64: "pipe", 69: "read-only",
    70: "invalid-seek", 74: "text-file-busy", 75: "cross-device", 76: "not-permitted",
}  # fmt: skip
ERROR_CODE = (
    "enum {access, would-block, already, bad-descriptor, busy, deadlock, quota, exist, file-too-large, "
    "illegal-byte-sequence, in-progress, interrupted, invalid, io, is-directory, loop, too-many-links, "
    "message-size, name-too-long, no-device, no-entry, no-lock, insufficient-memory, insufficient-space, "
    "not-directory, not-empty, not-recoverable, unsupported, no-tty, no-such-device, overflow, "
    "not-permitted, pipe, read-only, invalid-seek, text-file-busy, cross-device}"
)


def word(error: OSError | WasiError) -> str:
    """The word for an error; ``io`` for what has none."""
    number = error.number if isinstance(error, WasiError) else error_number(error)
    return _WORDS.get(number, "io")
