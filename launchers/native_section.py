"""One object of plugin.json, read key by key."""

from .failures import BadArtifact
from .values import Value


class Section:
    """An object and its place in plugin.json, for messages.

    Raises:
        BadArtifact: It is no object. The methods raise it for what is wrong with a key, and name the key.
    """

    def __init__(self, values: object, path: str) -> None:
        if not isinstance(values, dict):
            raise BadArtifact(f"plugin.json: {path} must be an object")
        self.values: dict[str, Value] = values
        self.path = path

    def wrong(self, key: str, problem: str) -> BadArtifact:
        """Make the exception for a problem with a key, or with the whole object when the key is empty."""
        path = f"{self.path}.{key}" if key else self.path
        return BadArtifact(f"plugin.json: {path} {problem}")

    def allow(self, *keys: str) -> None:
        """Refuse every other key."""
        for key in self.values:
            if key not in keys:
                raise self.wrong(key, f"is unknown; {self.path} may have: {', '.join(keys)}")

    def get[T: (int, str, bool, list[Value])](self, key: str, kind: type[T], default: T) -> T:
        """Return a value of one very type; a bool is no int."""
        value = self.values.get(key, default)
        if type(value) is not kind:
            words = {int: "an integer", str: "a string", bool: "true or false", list: "an array"}
            raise self.wrong(key, f"must be {words[kind]}")
        return value

    def name(self, key: str) -> str:
        """Return a string that is not empty."""
        name = self.get(key, str, "")
        if not name:
            raise self.wrong(key, "must be a name")
        return name

    def inner(self, key: str) -> "Section":
        """Return the object below a key; an empty one when the key is missing."""
        return Section(self.values.get(key, {}), f"{self.path}.{key}")
