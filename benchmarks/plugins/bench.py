"""The measured Python plugin."""


def echo(data: bytes) -> bytes:
    return bytes(memoryview(data))


def fib(n: int) -> int:
    return n if n < 2 else fib(n - 1) + fib(n - 2)
