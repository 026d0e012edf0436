"""What ``http_broker`` is made of: HTTP for plugins that have no network.

``request`` reads strictly what the plugin wants, ``addresses`` knows what a name or an odd number points at,
``connection`` is a socket to exactly the address that was checked, and ``exchange`` is HTTP/1.1 over it.

HTTP itself is h11's, which only parses and does no I/O; it comes with the extra ``http`` and is imported at
the first request. httpx and httpcore were read first. httpcore can be told which address to connect to (its
network backend), but all else that the two add would have to be switched off or watched: a second reading of
the URL after the one that was checked, proxies, redirects, cookies, decompression, a pool; and httpcore reads
informational responses for as long as a server sends them. Importing httpx costs ten megabytes and a fifth of
a second, h11 half a megabyte and a fortieth.
"""
