"""The registry: the server from which plugins are published, found and fetched.

``frys registry init`` makes its folder, ``frys registry serve`` runs it. docs/registry.md is the manual.

    serve, protocol          the process; HTTP with deadlines
    app                      one ASGI application of all routes
    api, oci, pages, files   JSON; OCI artifacts; pages for people; TUF metadata and targets
    http, operations         what handlers share; the routes with their types, and OpenAPI out of them
    guard, uploads           rate limits; a body that goes to the disk while it comes
    publishing, changes      what alters the catalogue, each in one transaction
    keys, root, mirror       online keys; offline roles; a copy as plain files
    catalog, search          what is read of it
    trust                    TUF metadata that the server signs by itself
    tokens, log, signatures  who may; what was done; what vouches for a package
    database                 SQLite
    names, settings, types   which ids are free; registry.json; what travels
"""
