"""What travels between a plugin and its host."""

type Value = None | bool | int | float | str | bytes | list["Value"] | dict[str, "Value"]
