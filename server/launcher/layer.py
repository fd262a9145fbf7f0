"""Whether the channel layer answers: asked once, before anything is served. A server works without it, only later."""

from __future__ import annotations

from channels.layers import get_channel_layer


async def trouble() -> str:
    """The cause why the layer does not answer; empty when it does, or when it is in memory."""
    ping = getattr(type(get_channel_layer()), "ping", None)
    if ping is None:
        return ""
    try:
        await ping(get_channel_layer())
    except Exception as error:  # noqa: BLE001  (whatever is wrong is said, and does not keep the server from starting)
        cause = error.__cause__ or error
        return str(cause).rstrip(".") or type(cause).__name__
    return ""
