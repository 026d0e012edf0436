"""What a plugin process may report instead of a result.

Everything in a failure is text that the plugin could have written itself: the host marks it as
untrusted, bounds it and never decides about life and death by it. A death is explained from the
kernel's own records only.
"""


class Failure(Exception):
    """A call or a load that did not give a result.

    Attributes:
        kind: The word that travels on the lane; the host maps it to its error tree.
        message: One line for people.
        detail: More text, such as the plugin's own traceback; may be empty.
    """

    kind = "exception"

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class PluginRaised(Failure):
    """The plugin's own exception, trap or negative return value."""


class BadArtifact(Failure):
    """The file is not what its format says: truncated, foreign, syntactically wrong."""

    kind = "format"


class NoSuchFunction(Failure):
    """The plugin has no function of that name."""

    kind = "function"

    def __init__(self, function: str, known: list[str]) -> None:
        names = ", ".join(sorted(known)[:20]) or "none"
        super().__init__(f"there is no function {function!r}; the plugin offers: {names}")


class BadArguments(Failure):
    """The caller passed the wrong number or the wrong types of arguments."""

    kind = "arguments"


class BadValue(Failure):
    """The plugin returned something that cannot travel."""

    kind = "value"


class HostRefused(Failure):
    """The host did not do what the plugin asked for.

    Attributes:
        reason: One word: ``permission``, ``invalid``, ``missing``, ``limit``, ``unavailable``, ``failed``,
            ``timeout`` or ``cycle``.
    """

    kind = "refused"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class LimitReached(Failure):
    """A limit stopped the call: ``memory``, ``stack``, ``time``, ``open_files`` or ``output``.

    Attributes:
        resource: Which one; travels as ``detail``.
        actual: What was measured, in the unit of the resource; 0 when unknown.
    """

    kind = "limit"

    def __init__(self, resource: str, message: str, actual: int = 0) -> None:
        super().__init__(message, resource)
        self.resource = resource
        self.actual = actual
