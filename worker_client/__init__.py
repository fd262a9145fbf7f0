"""The lab PC: holds one outbound WebSocket to the server and computes what is pushed down it."""

__version__ = "0.1.0"
