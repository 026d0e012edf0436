"""The launchers: one fork server per plugin format.

Nothing imports these modules into a host process. The host executes ``zygote.py`` with
``python -I -S``; it imports one format module (``wasm``, ``javascript``, ``native``, ``python``),
calls its ``prepare()`` and forks a child per plugin, which enters the jail and then calls ``load()``.

They must stay free of asyncio, threads, YAML, cryptography and every host module of Frys: what is
imported here is mapped into every plugin process.
"""
