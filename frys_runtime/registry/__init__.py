"""The client of a registry: search, download and publish plugins. docs/marketplace.md is the manual.

client                   PluginRegistry, the face: what it answers is awaited, and works in threads
keeping                  what publishers do with what they have published
repository, anchors      TUF: what is signed, from which root on
attacks                  what a failure looks like, in a sentence
oci                      a package by reference from an OCI registry
cache, known             what is kept on the disk, and how much of it; what is known from it
downloads                files that come in pieces, and go on where they broke off
transport                bytes over HTTP or from a folder, bounded
types, paths             what travels; the names of TUF targets, and their ETags
"""
