"""HTTP for plugins that may; the next commit brings it."""

from .messages import MessageValue, Refused
from .policy_grants import NetworkGrant


class HttpBroker:
    """Refuses everything."""

    def __init__(self, grants: tuple[NetworkGrant, ...]) -> None:
        self._grants = grants

    async def request(self, request: MessageValue, deadline: float) -> MessageValue:
        """Refuse."""
        raise Refused("unavailable", "there is no broker yet")

    async def close(self) -> None:
        """Nothing."""
