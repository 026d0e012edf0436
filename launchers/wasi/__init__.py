"""What components may import: WASI 0.2, and the services of the host; one small module for each package.

A function is named as in the component that imports it, with the type that it must have there. Values are
those of ``launchers/components/types``; a resource is any object of ours. Everything is done at once, in this
one thread: a stream is always ready, and only clocks and the host make a component wait.

Specification: the WIT files of https://github.com/WebAssembly/WASI, version 0.2
"""
