"""The browser leg: the viewer page, its WebSocket, and the client library in web/."""
