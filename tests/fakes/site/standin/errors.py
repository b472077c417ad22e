"""What ends or refuses."""


class RefusedError(Exception):
    """The engine does not start: `kind` is the exception it raises; `by_rank`: one of its processes does, not it."""

    def __init__(self, kind: str, words: str, *, by_rank: bool = False) -> None:
        super().__init__(words)
        self.kind = kind
        self.by_rank = by_rank


class RejectedError(Exception):
    """A request is answered with an error."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""
