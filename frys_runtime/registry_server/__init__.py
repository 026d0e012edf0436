"""The registry: the server from which plugins are published, found and fetched.

``frys registry init`` makes its folder, ``frys registry serve`` runs it. docs/registry.md is the manual.

    serve, protocol          the process; HTTP with deadlines
    app                      one ASGI application of all routes
    api, oci, pages, files   JSON; OCI artifacts; pages for people; TUF metadata and targets
    http, operations         what handlers share; the routes with their types, and OpenAPI out of them
    guard, uploads           rate limits; a body that goes to the disk while it comes
    publishing, changes      what alters the catalogue, each in one transaction
    keys, root               online keys and offline roles
    catalog, search          what is read of it
    export                   all that clients need, as files
    trust                    TUF metadata that the server signs by itself
    tokens, log, database    who may; what was done; SQLite
    names, settings, types   which ids are free; registry.json; what travels
"""
