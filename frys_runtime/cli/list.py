"""`frys list`: what is installed."""

from .market import DEFAULT_FOLDER, Folder
from .registries import Json
from .terminal import print_json, printable, size, stdout, table


def command(*, folder: Folder = DEFAULT_FOLDER, json: Json = False) -> None:
    """List the installed plugins, with where they came from and what they ask for.

    Exit codes: 0 listed, 2 frys.lock is wrong.
    """
    import msgspec

    from ..marketplace.market import PluginMarketplace

    found = PluginMarketplace([], folder).list()
    if json:
        plugins = [
            {"id": one.plugin, "requested": one.requested, "path": str(one.path)}
            | msgspec.to_builtins(one.entry)
            for one in found
        ]
        print_json({"folder": str(folder), "plugins": plugins})
        return
    shown = table("plugin", "version", "asked for", "format", "size", "permissions", "from", numbers=["size"])
    for one in found:
        entry = one.entry
        row = (one.plugin, one.version, one.requested or "needed", entry.format, size(entry.size))
        shown.add_row(*map(printable, (*row, ", ".join(entry.permissions), entry.source)))
    stdout().print(shown)
