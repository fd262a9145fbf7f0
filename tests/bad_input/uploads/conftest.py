"""The fixtures of the imaging tests: a folder, a user and a browser of their own."""

from tests.server.imaging.conftest import client, data_dir, owner, parser_here, real_parser, stranger, work_at_once

__all__ = ["client", "data_dir", "owner", "parser_here", "real_parser", "stranger", "work_at_once"]
