"""Plugins that are installed in a folder, as its ``frys.lock`` says. docs/marketplace.md is the manual.

market       PluginMarketplace, the face
planning     from what is wanted to what will be there, each package fetched and checked
resolve      which versions go together
changes      what a change does, and what it asks for that was not asked for before
checks       whether what is there is what is locked
store        the folder: one process at a time, one step from the old state to the new one
lockfile     frys.lock
"""

from ..registry.client import require_installed

require_installed()  # a sentence that says what to install, before an import fails below
