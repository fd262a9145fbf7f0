"""A data folder of its own and the parser in this process, for each test."""

from tests.server.imaging.conftest import data_dir, parser_here, real_parser, work_at_once

__all__ = ["data_dir", "parser_here", "real_parser", "work_at_once"]
