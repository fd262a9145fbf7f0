"""The wire contract between server and worker. Needs msgspec and nothing else; both sides import it."""
