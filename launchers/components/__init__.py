"""Components taken apart: their binary format, the canonical ABI, and instances on the core engine.

wasmtime runs the core modules inside a component; everything around them is done here: the index spaces, the
links, the handles, and how values cross. Its own component API hands over one structure for each element of a
list, has no way to a component's memory, and its WASI starts threads.

Specification: https://github.com/WebAssembly/component-model, design/mvp/Binary.md and CanonicalABI.md
"""
