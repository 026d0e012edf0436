"""Tracebacks of plugins, as text, without a file being opened.

The standard ``traceback`` module would cost every plugin process about a megabyte (it needs tokenize,
ast and re) and would read source files, which a jailed plugin cannot. This one knows what it is given.
"""

TYPE_CHECKING = False  # importing typing, or the modules below, costs memory in every plugin
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType

type Source = Callable[[str, int], str]
type Hidden = Callable[[FrameType], bool]

_MAX_FRAMES = 40
_MAX_CHAIN = 8
_MAX_MESSAGE = 4096

_CAUSED = "\nThe above exception was the direct cause of the following exception:\n\n"
_DURING = "\nDuring handling of the above exception, another exception occurred:\n\n"


def describe(error: BaseException) -> str:
    """Name an exception in one line, as Python does: ``ValueError: bad``."""
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in {"builtins", "__main__"}:
        name = f"{kind.__module__}.{name}"
    try:
        text = str(error)
    except BaseException:  # a plugin's __str__ may do anything
        text = "(its __str__ failed)"
    if len(text) > _MAX_MESSAGE:
        text = text[:_MAX_MESSAGE] + "..."
    return f"{name}: {text}" if text else name


def render(error: BaseException, source: "Source", hidden: "Hidden") -> str:
    """Write an exception and what led to it, in the form of Python's own tracebacks.

    Args:
        error: The exception.
        source: Gives a line's text from file and number, or an empty string.
        hidden: Tells which frames are not the plugin's business.
    """
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    link = ""
    while current is not None and id(current) not in seen and len(seen) < _MAX_CHAIN:
        seen.add(id(current))
        parts.append(_one(current, source, hidden) + link)
        link = _CAUSED if current.__cause__ is not None else _DURING
        context = None if current.__suppress_context__ else current.__context__
        current = current.__cause__ if current.__cause__ is not None else context
    return "".join(reversed(parts))


def _one(error: BaseException, source: "Source", hidden: "Hidden") -> str:
    places = list(_places(error.__traceback__, hidden))
    lines = ["Traceback (most recent call last):\n"] if places else []
    first, left_out = _MAX_FRAMES // 2, max(0, len(places) - _MAX_FRAMES)
    lines.extend(_place(place, source) for place in places[:first])
    if left_out:
        lines.append(f"  ... {left_out} more calls ...\n")
    lines.extend(_place(place, source) for place in places[first + left_out :])
    if isinstance(error, SyntaxError) and error.filename:
        lines.append(f'  File "{error.filename}", line {error.lineno}\n    {(error.text or "").strip()}\n')
    lines.append(f"{describe(error)}\n")
    lines.extend(f"{note}\n" for note in getattr(error, "__notes__", ()))
    if isinstance(error, BaseExceptionGroup):
        lines.extend(f"  {n}. {describe(one)}\n" for n, one in enumerate(error.exceptions[:_MAX_CHAIN], 1))
    return "".join(lines)


def _places(traceback: "TracebackType | None", hidden: "Hidden") -> "Iterator[tuple[str, int, str]]":
    while traceback is not None:
        frame = traceback.tb_frame
        if not hidden(frame):
            yield frame.f_code.co_filename, traceback.tb_lineno, frame.f_code.co_qualname
        traceback = traceback.tb_next


def _place(place: tuple[str, int, str], source: "Source") -> str:
    file, number, name = place
    text = source(file, number).strip()
    return f'  File "{file}", line {number}, in {name}\n' + (f"    {text}\n" if text else "")
