"""The audit log: who did what with which rows, and when. Nothing in it is ever changed."""
