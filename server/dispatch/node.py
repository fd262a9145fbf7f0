"""The name of this server process, new at every start."""

from server.ids import new_id

NODE = new_id()
