"""The message bus between the supervisors of one server: calls and events for plugins that live elsewhere.

    config      where to meet, and with which keys
    rendezvous  the folder in which supervisors find each other
    frames      the messages, as bytes and back (docs/protocol.md)
    failures    errors of a plugin's supervisor, as its caller gets them
    sockets     the only module that knows ZeroMQ
    circles     plugins that wait for each other over several supervisors
    standstill  the same where they have several instances
    node        one participant: who else is there, requests and their answers
    questions   what may be asked of a supervisor itself
    control     what it may be told to do
    remote      a plugin of another supervisor
    supervisor  what a manager takes part with
    visitor     what the ``frys`` command takes part with

Only trusted processes speak it (ADR 1). Nothing here is imported until a bus is opened.
"""
